//! One operator acts at a time: whoever holds the Lease. Who loses it leaves the process.
//!
//! The rules are those of client-go's leader election: a lease that was not renewed for its duration, measured by our own clock
//! since we saw it last change, is free; writes carry the resource version, so that of two only one succeeds.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};

/// A lease that was not renewed for this long is free.
pub const LEASE_FOR: Duration = Duration::from_secs(15);

/// How often it is renewed.
pub const RENEW_EVERY: Duration = Duration::from_secs(5);

/// How long we act without having renewed it: a third less than others wait.
const HOLD_FOR: Duration = Duration::from_secs(10);

/// Pause after a refusal.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// What to do about the lease. Pure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// There is none: make it.
    Create,
    /// It is ours: write that we live.
    Renew,
    /// Its holder has gone: take it.
    Take,
    /// Somebody else holds it.
    Wait,
}

/// Decides. `unchanged_for` is how long the lease has looked the same to us.
#[must_use]
pub fn decide(lease: Option<&Lease>, me: &str, unchanged_for: Duration) -> Move {
    let Some(lease) = lease else { return Move::Create };
    let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    match holder {
        holder if holder == me => Move::Renew,
        "" => Move::Take,
        _ if unchanged_for >= LEASE_FOR => Move::Take,
        _ => Move::Wait,
    }
}

/// A candidate.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    me: String,
    seen: Option<(String, Instant)>,
}

impl Candidate {
    /// A candidate of this identity, for a Lease: its namespace and name.
    #[must_use]
    pub fn new(client: Client, (namespace, name): (&str, &str), me: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.into(), me: me.into(), seen: None }
    }

    /// Tries once; returns whether we hold the lease now.
    ///
    /// # Errors
    /// What the API server says, but for a lost race.
    pub async fn try_once(&mut self) -> Result<bool, kube::Error> {
        let lease = self.api.get_opt(&self.name).await?;
        let version = lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone()).unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != version) {
            self.seen = Some((version, Instant::now()));
        }
        let unchanged_for = self.seen.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed());
        let written = match decide(lease.as_ref(), &self.me, unchanged_for) {
            Move::Wait => return Ok(false),
            Move::Create => self.api.create(&PostParams::default(), &self.held(None)).await,
            Move::Renew | Move::Take => {
                self.api.replace(&self.name, &PostParams::default(), &self.held(lease.as_ref())).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            // Somebody was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn held(&self, before: Option<&Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let spec = before.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let is_ours = spec.holder_identity.as_deref() == Some(&self.me);
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: before.and_then(|lease| lease.metadata.resource_version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.me.clone()),
                lease_duration_seconds: Some(LEASE_FOR.as_secs() as i32),
                acquire_time: if is_ours { spec.acquire_time.clone() } else { Some(now.clone()) },
                renew_time: Some(now),
                lease_transitions: Some(spec.lease_transitions.unwrap_or(0) + i32::from(!is_ours && before.is_some())),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Gives the lease back, so that the next need not wait.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn release(&self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else { return Ok(()) };
        if let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(&self.me)) {
            spec.holder_identity = Some(String::new());
            self.api.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }

    /// Waits until we hold the lease.
    pub async fn campaign(&mut self) {
        loop {
            // An answer that never comes must not keep a standby from taking over.
            match tokio::time::timeout(RENEW_EVERY, self.try_once()).await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the lease cannot be had"),
                Err(_) => tracing::warn!("the API server did not answer about the lease in time"),
            }
            tokio::time::sleep(RENEW_EVERY / 2).await;
        }
    }

    /// Renews the lease until it is lost: somebody else has it, or it could not be renewed in time.
    pub async fn hold(&mut self) {
        // When the last write began that succeeded: others count from some moment after it.
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(RENEW_EVERY.saturating_sub(renewed.elapsed())).await;
            let began = Instant::now();
            let left = HOLD_FOR.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.try_once()).await {
                Ok(Ok(true)) => renewed = began,
                Ok(Ok(false)) => return,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the lease was not renewed");
                    tokio::time::sleep(RETRY_EVERY).await;
                }
                Err(_) => tracing::warn!("the lease was not renewed in time"),
            }
            if renewed.elapsed() >= HOLD_FOR {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_only_from_nobody_or_the_dead() {
        let held_by = |holder: &str| Lease {
            spec: Some(LeaseSpec { holder_identity: Some(holder.into()), ..LeaseSpec::default() }),
            ..Lease::default()
        };
        let long = LEASE_FOR;
        let short = LEASE_FOR / 2;
        for (lease, unchanged_for, want) in [
            (None, short, Move::Create),
            (Some(held_by("me")), short, Move::Renew),
            (Some(held_by("me")), long, Move::Renew),
            (Some(held_by("other")), short, Move::Wait),
            (Some(held_by("other")), long, Move::Take),
            (Some(held_by("")), short, Move::Take),
        ] {
            assert_eq!(decide(lease.as_ref(), "me", unchanged_for), want);
        }
    }
}

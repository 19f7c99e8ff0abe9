//! Secrets of a manifest, from mounted files or the environment. Never from arguments: those can be seen by everybody.
//!
//! The key `password` of the secret `kafka-user` is the variable `CLICKSTREAM_SECRET_KAFKA_USER_PASSWORD`, or else the file
//! `kafka-user/password` in the directory that `CLICKSTREAM_SECRETS` names (`/etc/clickstream/secrets` without it): what a
//! pod sees of a Kubernetes secret that is mounted there.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use crate::cli::Mistake;

/// The variable that names the directory.
pub const DIRECTORY_VARIABLE: &str = "CLICKSTREAM_SECRETS";

/// Where secrets are mounted unless the variable says otherwise.
pub const DIRECTORY: &str = "/etc/clickstream/secrets";

/// Where secrets are looked for.
#[derive(Clone, Debug)]
pub struct Secrets {
    directory: PathBuf,
    variables: BTreeMap<String, String>,
}

impl Secrets {
    /// Looks where this process was told to.
    #[must_use]
    pub fn from_environment() -> Self {
        let directory = env::var_os(DIRECTORY_VARIABLE).map_or_else(|| PathBuf::from(DIRECTORY), PathBuf::from);
        let variables = env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with("CLICKSTREAM_SECRET_"))?;
            Some((name, value.into_string().ok()?))
        });
        Self { directory, variables: variables.collect() }
    }

    /// Looks into `directory` only.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), variables: BTreeMap::new() }
    }

    /// The value of `key` in `secret`, without white space around it.
    ///
    /// # Errors
    /// A [`Mistake`] that names both places where it could be.
    pub fn value(&self, secret: &str, key: &str) -> Result<String, Mistake> {
        self.optional(secret, key)?.ok_or_else(|| {
            let file = self.directory.join(secret).join(key);
            Mistake(format!(
                "secret {secret} has no `{key}`: give {} or the file {}",
                variable(secret, key),
                file.display()
            ))
        })
    }

    /// As [`Secrets::value`], where it need not be there.
    ///
    /// # Errors
    /// Where it is there and cannot be read.
    pub fn optional(&self, secret: &str, key: &str) -> Result<Option<String>, Mistake> {
        if let Some(value) = self.variables.get(&variable(secret, key)) {
            return Ok(Some(value.trim().to_owned()));
        }
        let file = self.directory.join(secret).join(key);
        if !file.is_file() {
            return Ok(None);
        }
        let read = fs::read_to_string(&file).map(|text| Some(text.trim().to_owned()));
        read.map_err(|error| Mistake(format!("failed to read the secret {}: {error}", file.display())))
    }

    /// Every value of `secret`, by the order of their keys: for secrets whose values are all tokens.
    ///
    /// # Errors
    /// A [`Mistake`] where there is none.
    pub fn values(&self, secret: &str) -> Result<Vec<String>, Mistake> {
        let prefix = variable(secret, "");
        let from_variables = self.variables.iter().filter(|(name, _)| name.starts_with(&prefix));
        let mut values: Vec<String> = from_variables.map(|(_, value)| value.trim().to_owned()).collect();
        let directory = self.directory.join(secret);
        let entries = fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok);
        // A mounted secret has hidden links besides its keys.
        let keys = entries.filter_map(|entry| entry.file_name().into_string().ok().filter(|key| !key.starts_with('.')));
        let keys: std::collections::BTreeSet<String> = keys.collect();
        for key in keys {
            values.extend(self.optional(secret, &key)?);
        }
        values.retain(|value| !value.is_empty());
        if values.is_empty() {
            let told = format!("secret {secret} has no values: give {prefix}… or files in {}", directory.display());
            return Err(Mistake(told));
        }
        Ok(values)
    }
}

/// `kafka-user`, `password` → `CLICKSTREAM_SECRET_KAFKA_USER_PASSWORD`.
fn variable(secret: &str, key: &str) -> String {
    let name = format!("CLICKSTREAM_SECRET_{secret}_{key}");
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_wins_over_a_file_and_a_missing_one_is_told_with_both_names() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("kafka-user")).unwrap();
        fs::write(directory.path().join("kafka-user/password"), "from file\n").unwrap();
        let mut secrets = Secrets::in_directory(directory.path());
        assert_eq!(secrets.value("kafka-user", "password").unwrap(), "from file");
        secrets.variables.insert("CLICKSTREAM_SECRET_KAFKA_USER_PASSWORD".into(), "from variable".into());
        assert_eq!(secrets.value("kafka-user", "password").unwrap(), "from variable");
        assert_eq!(secrets.values("kafka-user").unwrap(), ["from variable", "from variable"]);
        let told = secrets.value("kafka-user", "ca.crt").unwrap_err().to_string();
        assert!(told.contains("CLICKSTREAM_SECRET_KAFKA_USER_CA_CRT") && told.contains("kafka-user/ca.crt"), "{told}");
        assert!(secrets.values("nothing").is_err());
    }
}

//! Which node serves which vbucket, and how a cluster says so.

use serde_json::{Value, json};

/// Vbuckets of every bucket: few, because each map is sent with every change.
pub(super) const VBUCKETS: u16 = 64;

/// Ports of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub key_value: u16,
    pub management: u16,
}

#[derive(Default)]
pub(super) struct Topology {
    /// Whether the ports speak TLS.
    pub(super) is_secured: bool,
    revision: u64,
    nodes: Vec<Ports>,
    owners: Vec<usize>,
}

impl Topology {
    pub(super) fn new(is_secured: bool) -> Self {
        Self { is_secured, ..Self::default() }
    }

    pub(super) fn share_out(&mut self, nodes: Vec<Ports>) {
        self.owners = (0..usize::from(VBUCKETS)).map(|vbucket| vbucket % nodes.len()).collect();
        self.nodes = nodes;
        self.revision += 1;
    }

    pub(super) fn rotate(&mut self) {
        let nodes = self.nodes.len();
        self.owners.iter_mut().for_each(|owner| *owner = (*owner + 1) % nodes);
        self.revision += 1;
    }

    pub(super) fn owns(&self, node: usize, vbucket: u16) -> bool {
        self.owners.get(usize::from(vbucket)) == Some(&node)
    }

    /// A server lists its ports in the clear in any case, and the official crate tells nodes apart by them.
    fn services(&self, ports: Ports) -> Value {
        let mut services = json!({"kv": ports.key_value, "mgmt": ports.management});
        if self.is_secured {
            services["kvSSL"] = ports.key_value.into();
            services["mgmtSSL"] = ports.management.into();
        }
        services
    }

    /// The configuration that clients are told by this node; of a bucket with where its vbuckets are.
    pub(super) fn config(&self, node: usize, bucket: Option<(&str, &str)>) -> Vec<u8> {
        let node_of = |(at, ports): (usize, &Ports)| json!({"services": self.services(*ports), "hostname": "127.0.0.1", "thisNode": at == node});
        let mut config = json!({
            "rev": self.revision,
            "revEpoch": 1,
            "nodesExt": self.nodes.iter().enumerate().map(node_of).collect::<Vec<Value>>(),
            "clusterCapabilitiesVer": [1, 0],
            "clusterCapabilities": {},
            "clusterName": "double",
        });
        if let Some((name, uuid)) = bucket {
            let servers: Vec<String> =
                self.nodes.iter().map(|ports| format!("127.0.0.1:{}", ports.key_value)).collect();
            let node = |ports: &Ports| json!({"hostname": format!("127.0.0.1:{}", ports.management), "ports": {"direct": ports.key_value}});
            config["name"] = name.into();
            config["uuid"] = uuid.into();
            config["nodeLocator"] = "vbucket".into();
            config["bucketCapabilities"] = json!(["collections", "durableWrite", "xattr", "cccp", "nodesExt"]);
            config["nodes"] = self.nodes.iter().map(node).collect();
            config["vBucketServerMap"] = json!({
                "hashAlgorithm": "CRC",
                "numReplicas": 0,
                "serverList": servers,
                "vBucketMap": self.owners.iter().map(|owner| [owner]).collect::<Vec<_>>(),
            });
        }
        config.to_string().into_bytes()
    }
}

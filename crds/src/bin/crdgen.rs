//! Prints the CustomResourceDefinition as YAML: what `crds/clickstreampipelines.yaml` holds.

fn main() {
    print!("{}", crds::crd_yaml());
}

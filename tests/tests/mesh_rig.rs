//! The cluster of the tests itself: what the tests against it take for granted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use hueshift_tests::cluster::api::User;
use hueshift_tests::cluster::{Cluster, Parts, suite};
use hueshift_tests::tests;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    let guest = User { name: "guest".to_owned(), groups: vec!["guests".to_owned()] };
    let parts = Parts { users: vec![guest], istio_crds: true };
    suite::main(parts, tests![a_user_without_a_role_may_nothing, a_user_may_what_her_role_says])
}

async fn a_user_without_a_role_may_nothing(cluster: Arc<Cluster>) {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client_of("guest").await, "default");
    let refused = maps.list(&Default::default()).await.unwrap_err().to_string();
    assert!(refused.contains("forbidden") && refused.contains("guest"), "{refused}");
}

async fn a_user_may_what_her_role_says(cluster: Arc<Cluster>) {
    cluster.kubectl(&["create", "namespace", "rbac"]);
    cluster.kubectl(&["-n", "rbac", "create", "role", "reader", "--verb=list", "--resource=configmaps"]);
    cluster.kubectl(&["-n", "rbac", "create", "rolebinding", "reader", "--role=reader", "--group=guests"]);
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client_of("guest").await, "rbac");
    maps.list(&Default::default()).await.unwrap();
    let refused = maps.delete("anything", &Default::default()).await.unwrap_err().to_string();
    assert!(refused.contains("cannot delete"), "{refused}");
}

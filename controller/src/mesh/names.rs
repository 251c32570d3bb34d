//! Names that the controller and the manifests in `istio/` must agree on; a test reads both.

/// The API group of our objects.
pub const GROUP: &str = "hueshift.dev";
/// Field manager of all our writes.
pub const FIELD_MANAGER: &str = "hueshift";
/// Namespace of the controller.
pub const NAMESPACE: &str = "hueshift-system";
/// Label with which a namespace opts in; its value is [`YES`].
pub const ENABLED_LABEL: &str = "hueshift.dev/enabled";
/// Label of the WasmPlugins that the controller may touch; its value is [`YES`].
pub const PLUGIN_LABEL: &str = "hueshift.dev/plugin";
/// Value of our labels.
pub const YES: &str = "true";
/// Annotation of a BlueGreen that carries a person's order.
pub const ORDER_ANNOTATION: &str = "hueshift.dev/order";
/// Lease of the leading controller, in the controller's namespace.
pub const LEASE: &str = "hueshift";
/// Secret with the mesh keys, in the controller's namespace.
pub const KEYS_SECRET: &str = "hueshift-mesh-keys";
/// Service that filters report to.
pub const REPORTS_SERVICE: &str = "hueshift-reports";
/// Its port, and the port that the controller listens on for reports.
pub const REPORTS_PORT: u16 = 9080;
/// Service for metrics, health and reading the status.
pub const SERVICE: &str = "hueshift";
/// Its port, and the port that the controller listens on for these.
pub const PORT: u16 = 9090;

/// Environment variable: address to listen on (the pod's own).
pub const BIND_ENV: &str = "HUESHIFT_BIND";
/// Environment variable: the controller's namespace, [`NAMESPACE`] without it.
pub const NAMESPACE_ENV: &str = "HUESHIFT_NAMESPACE";
/// Environment variable: name of this pod, as the holder of the lease.
pub const POD_ENV: &str = "HUESHIFT_POD";
/// Environment variable: the mesh's root namespace.
pub const ROOT_NAMESPACE_ENV: &str = "HUESHIFT_ROOT_NAMESPACE";
/// Environment variable: where the module of the plugins that the controller makes comes from.
pub const PLUGIN_URL_ENV: &str = "HUESHIFT_PLUGIN_URL";
/// Environment variable: the module's digest; empty: not checked.
pub const PLUGIN_SHA256_ENV: &str = "HUESHIFT_PLUGIN_SHA256";
/// Environment variable: `required` (default) refuses reports without a mesh identity, `none` takes them and says so.
pub const REPORT_IDENTITY_ENV: &str = "HUESHIFT_REPORT_IDENTITY";
/// Environment variable: seconds that istiod may hold back a push.
pub const DEBOUNCE_MAX_ENV: &str = "HUESHIFT_DEBOUNCE_MAX";
/// Environment variable: `true` keeps caps out of the replies, for measurements only.
pub const WITHOUT_CAPS_ENV: &str = "HUESHIFT_WITHOUT_CAPS";

/// Envoy's name for the report service of the controller in `namespace`.
pub fn report_cluster(namespace: &str) -> String {
    format!("outbound|{REPORTS_PORT}||{REPORTS_SERVICE}.{namespace}.svc.cluster.local")
}

/// Path by which the API server passes a read of the status on to the controller in `namespace`.
pub fn status_proxy_path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/services/{SERVICE}:http/proxy{}", crate::control::STATUS_PATH)
}

//! A request line to the API server: the authorizer's reading of it never panics, and never sees a verb that is empty.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_kube::UserInfo;
use portcullis_rbac::{Policy, RequestInfo, authorize};

fuzz_target!(|data: &str| {
    let mut parts = data.splitn(3, ' ');
    let (method, path, query) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let Ok(info) = RequestInfo::parse(method, path, query) else { return };
    let nobody = UserInfo::default();
    let decision = authorize(&Policy::default(), &info.attributes(&nobody));
    assert!(!decision.allowed, "an empty policy allows nothing to nobody");
});

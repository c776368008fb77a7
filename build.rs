use std::path::PathBuf;
fn main() {
    println!("cargo:rerun-if-changed=src/hook/aten.cpp");
    let lib = PathBuf::from(std::env::var("DEP_TCH_LIBTORCH_LIB").unwrap());
    let inc = lib.parent().unwrap().join("include");
    cc::Build::new().cpp(true).std("c++17").warnings(false).define("NDEBUG", None).include(&inc).include(inc.join("torch/csrc/api/include")).file("src/hook/aten.cpp").compile("tch_audit_shim");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.canonicalize().unwrap().display());
}

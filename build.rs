//! Compiles the shim, the C++ files of `src/hook`, against the libtorch that torch-sys chose, and nothing else.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

const SHIM: [&str; 2] = ["src/hook/aten.cpp", "src/hook/code.cpp"];
/// The libtorch that tch 0.26 and the shim are written for.
const VERSION: (u32, u32) = (2, 13);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    SHIM.iter().for_each(|file| println!("cargo::rerun-if-changed={file}"));
    if env::var_os("CARGO_FEATURE_DOC_ONLY").is_some() {
        return;
    }
    let lib = variable("DEP_TCH_LIBTORCH_LIB").expect("torch-sys says where libtorch is");
    let include = include_dir(&lib);
    check_version(&include);
    compile(&include);
    link(&lib);
}

/// The folder of libtorch's headers, found in every way that torch-sys accepts.
fn include_dir(lib: &Path) -> PathBuf {
    // Beside the libraries are the headers of a libtorch folder, of a Python environment
    // (LIBTORCH_USE_PYTORCH), of the system (/usr/lib) and of the feature download-libtorch.
    let beside = lib.with_file_name("include");
    let mut tried = Vec::new();
    if variable("LIBTORCH_USE_PYTORCH").is_none() {
        tried.extend(["LIBTORCH_INCLUDE", "LIBTORCH"].into_iter().filter_map(variable).map(|d| d.join("include")));
    }
    tried.push(beside);
    tried.dedup();
    match tried.iter().find(|dir| dir.join("ATen/record_function.h").exists()) {
        Some(dir) => dir.clone(),
        None => panic!(
            "\n\ncannot find the header ATen/record_function.h of libtorch. Tried:\n{}\n\
             Set LIBTORCH to a libtorch {}.{} that has both include and lib, or LIBTORCH_INCLUDE to the folder that \
             holds its include;\nin a clone of tch-audit, `make libtorch` does all that is needed.\n",
            tried.iter().map(|dir| format!("  {}\n", dir.display())).collect::<String>(),
            VERSION.0,
            VERSION.1,
        ),
    }
}

/// Stops when the headers are of another version: a shim compiled with them would read memory wrongly.
fn check_version(include: &Path) {
    let header = include.join("torch/headeronly/version.h");
    println!("cargo::rerun-if-changed={}", header.display());
    if variable("LIBTORCH_BYPASS_VERSION_CHECK").is_some() {
        return;
    }
    let text = fs::read_to_string(&header).unwrap_or_default();
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("#define ")?.strip_prefix(name))?;
        line.trim().parse::<u32>().ok()
    };
    let found = number("TORCH_VERSION_MAJOR").zip(number("TORCH_VERSION_MINOR"));
    if found != Some(VERSION) {
        let found = found.map_or("no version".to_string(), |(major, minor)| format!("{major}.{minor}"));
        panic!(
            "\n\ntch-audit needs the headers of libtorch {}.{}; {} says {found}.\n\
             LIBTORCH_BYPASS_VERSION_CHECK=1 builds all the same, at your risk.\n",
            VERSION.0,
            VERSION.1,
            header.display(),
        );
    }
}

/// The flags are torch-sys's own: both sides must agree about the layout of std::string and of libtorch's classes.
fn compile(include: &Path) {
    let abi = match variable("LIBTORCH_USE_PYTORCH") {
        Some(_) => None, // PyTorch 2.13 is built with 1
        None => variable("LIBTORCH_CXX11_ABI"),
    };
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(include)
        .include(include.join("torch/csrc/api/include"))
        .define("NDEBUG", None)
        .define("GLOG_USE_GLOG_EXPORT", None)
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_ref().and_then(|abi| abi.to_str()).unwrap_or("1"))
        .files(SHIM)
        .compile("tch_audit_aten");
}

/// Lets this package's own programs, tests and examples find libtorch without LD_LIBRARY_PATH.
fn link(lib: &Path) {
    let target = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if target == "windows" {
        return;
    }
    let lib = fs::canonicalize(lib).unwrap_or_else(|_| lib.to_path_buf());
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
    if target == "linux" {
        // libtorch.so carries the CUDA half, which nothing names and the linker would drop.
        println!("cargo::rustc-link-arg=-Wl,--no-as-needed");
        println!("cargo::rustc-link-arg=-ltorch");
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    println!("cargo::rerun-if-env-changed={name}");
    env::var_os(name).map(PathBuf::from)
}

//! Facts of this build, for `ztunnel version`: the commit, the compiler, the profile.
//!
//! Read once per build and compiled in; what cannot be told (no git, an unpacked archive) is `unknown`.
#![expect(
    clippy::disallowed_methods,
    reason = "a build script is told everything by environment variables"
)]

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Written at each commit and checkout; absent in an archive, and then nothing changes.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"])
        && Path::new(&log).exists()
    {
        println!("cargo::rerun-if-changed={log}");
    }
    let is_modified =
        git(&["status", "--porcelain", "--untracked-files=no"]).map(|s| !s.is_empty());
    let revision = git(&["rev-parse", "HEAD"]).map_or_else(unknown, |commit| {
        let mark = if is_modified == Some(true) {
            "-dirty"
        } else {
            ""
        };
        format!("{commit}{mark}")
    });
    let status = match is_modified {
        Some(true) => "Modified".into(),
        Some(false) => "Clean".into(),
        None => unknown(),
    };
    let compiler = env::var("RUSTC")
        .ok()
        .and_then(|rustc| said(&rustc, &["--version"]));
    // "rustc 1.95.0 (59807616e 2026-04-14)"
    let version = compiler.as_deref().and_then(|line| line.split(' ').nth(1));
    fact("GIT_REVISION", &revision);
    fact("BUILD_STATUS", &status);
    fact("RUST_VERSION", version.unwrap_or("unknown"));
    fact(
        "BUILD_PROFILE",
        &env::var("PROFILE").unwrap_or_else(|_| unknown()),
    );
}

fn fact(name: &str, value: &str) {
    println!("cargo::rustc-env=ZTUNNEL_{name}={value}");
}

fn git(arguments: &[&str]) -> Option<String> {
    said("git", arguments)
}

/// What a program says on its standard output; nothing if it fails.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn unknown() -> String {
    "unknown".into()
}

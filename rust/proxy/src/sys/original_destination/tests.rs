use std::net::{TcpListener, TcpStream};
use std::process::Command;

use super::*;
use crate::sys::testing::{connected_pair, may_administer_network};

#[test]
fn an_unredirected_connection_wanted_where_it_arrived() {
    let (client, server) = connected_pair();
    let found = original_destination(&server).unwrap();
    assert_eq!(found.address(), client.peer_addr().unwrap());
}

#[test]
fn the_errors_of_both_questions_are_kept() {
    let (_client, server) = connected_pair();
    match original_destination(&server).unwrap() {
        OriginalAddress::Local { v4, v6, .. } => {
            assert!(v4.raw_os_error().is_some());
            assert!(v6.raw_os_error().is_some());
        }
        OriginalAddress::Tracked(_) => println!("skipped: connections are tracked here"),
    }
}

/// Runs the next test in a network namespace of its own, where everything but port 15001 is redirected to it.
#[test]
fn a_redirected_connection_wanted_what_it_dialled() {
    const SCRIPT: &str = "
        ip link set lo up && nft -f - <<END || exit 100
        table inet captured {
            chain output {
                type nat hook output priority -100;
                tcp dport 8080 redirect to :15001
            }
        }
END
        exec \"$0\" --exact --ignored sys::original_destination::tests::inside_a_namespace";
    if !may_administer_network() {
        return;
    }
    let this = std::env::current_exe().unwrap();
    let inside = Command::new("unshare")
        .args(["--net", "sh", "-c", SCRIPT])
        .arg(this)
        .output();
    match inside {
        Err(error) => println!("skipped: no unshare: {error}"),
        Ok(output) if matches!(output.status.code(), Some(1 | 100)) => println!(
            "skipped: no namespace or no nftables: {}",
            String::from_utf8_lossy(&output.stderr)
        ),
        Ok(output) => assert!(
            output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed"),
            "{output:?}"
        ),
    }
}

#[test]
#[ignore = "needs a namespace with redirection; the test above makes it"]
fn inside_a_namespace() {
    for (listen, dialled) in [
        ("127.0.0.1:15001", "127.0.0.1:8080"),
        ("[::1]:15001", "[::1]:8080"),
        ("[::]:15001", "127.0.0.1:8080"),
    ] {
        let listener = TcpListener::bind(listen).unwrap();
        let _client = TcpStream::connect(dialled).unwrap();
        let (server, _) = listener.accept().unwrap();
        let found = original_destination(&server).unwrap();
        assert!(matches!(found, OriginalAddress::Tracked(_)), "{found:?}");
        assert_eq!(found.address(), dialled.parse().unwrap());
        assert_ne!(server.local_addr().unwrap().port(), 8080);
    }
}

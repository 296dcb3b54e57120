use super::*;

fn filter(directives: &str) -> Filter {
    directives.parse().unwrap()
}

#[test]
fn filters_show_the_longest_target_first_and_the_default_last() {
    for (directives, shown) in [
        ("info", "info"),
        ("OFF", "off"),
        ("access=debug", "access=debug,info"),
        ("debug, access=off", "access=off,debug"),
        (
            "access=debug,proxy::inbound=trace,warn",
            "proxy::inbound=trace,access=debug,warn",
        ),
        ("access:debug", "access=debug,info"),
        ("ztunnel::proxy:trace", "ztunnel::proxy=trace,info"),
        ("access=info,access=debug", "access=debug,info"),
        ("aa=debug,cc=warn,bb=off", "cc=warn,bb=off,aa=debug,info"),
    ] {
        assert_eq!(filter(directives).to_string(), shown, "{directives}");
    }
}

#[test]
fn what_is_no_directive_is_refused_and_named() {
    for (directives, part) in [
        ("", ""),
        ("bogus", "bogus"),
        ("info,", ""),
        ("=debug", "=debug"),
        ("access=loud", "access=loud"),
        ("ztunnel::proxy", "ztunnel::proxy"),
    ] {
        let error = directives.parse::<Filter>().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("not a log level nor `target=level`: `{part}`")
        );
    }
}

#[test]
fn the_longest_target_decides() {
    for (directives, level, target, passes) in [
        ("info", Level::Info, "proxy", true),
        ("info", Level::Debug, "proxy", false),
        ("off", Level::Error, "proxy", false),
        ("info,proxy=debug", Level::Debug, "proxy::inbound", true),
        (
            "info,ztunnel::proxy=debug",
            Level::Debug,
            "proxy::inbound",
            true,
        ),
        (
            "proxy=off,proxy::inbound=info",
            Level::Info,
            "proxy::inbound",
            true,
        ),
        (
            "proxy=off,proxy::inbound=info",
            Level::Info,
            "proxy::outbound",
            false,
        ),
        ("ztunnel=debug", Level::Debug, "proxy::outbound", true),
        ("ztunnel=debug", Level::Debug, "ztunnel", true),
        ("ztunnel=debug", Level::Debug, "access", false),
        ("access=off", Level::Error, "access", false),
        ("access=debug", Level::Debug, "proxy", false),
    ] {
        assert_eq!(
            filter(directives).allows(level, target),
            passes,
            "{directives} {target}"
        );
    }
}

#[test]
fn more_directives_are_laid_over_what_is_there() {
    let startup = filter("info,access=debug");
    assert_eq!(
        startup.with("access=warn,dns=debug").unwrap().to_string(),
        "access=warn,dns=debug,info"
    );
    assert!(startup.with("dns=debug,bogus").is_err());
}

#[test]
fn a_log_starts_with_upstreams_prefix() {
    for (directives, shown) in [
        ("info", "hickory_server::server=off,info"),
        (
            "access=debug,info",
            "hickory_server::server=off,access=debug,info",
        ),
        (
            "hickory_server::server=debug",
            "hickory_server::server=debug,info",
        ),
    ] {
        assert_eq!(Filter::startup(directives).unwrap().to_string(), shown);
    }
    assert!(Filter::startup("bogus").is_err());
}

#[test]
fn directives_that_add_up_to_more_targets_than_a_filter_may_have_change_nothing() {
    let mut filter = Filter::default();
    for number in 0..MAX_TARGETS {
        filter = filter.with(&format!("t{number}=debug")).unwrap();
    }
    let refused = filter.with("one_more=debug").unwrap_err();
    assert!(refused.to_string().contains("256"), "{refused}");
    assert!(filter.with("t0=off,warn").is_ok());
}

//! What starts, what doesn't, and what is said then.

use crate::process::{Server, program, run};

/// Runs with `args`, asserts exit code 2 and one line, and gives the line.
#[track_caller]
fn refused(args: &[&str]) -> String {
    let output = run(args);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{line}");
    assert!(output.stdout.is_empty());
    line.trim_end().to_owned()
}

#[test]
fn a_fault_is_one_line_that_names_key_value_and_what_is_allowed() {
    for (args, expected) in [
        (
            &["--set", "server.lisen=1"][..],
            "chatflow-server: \"server.lisen\" (from --set): there is no such key; did you mean server.listen?",
        ),
        (&["--set", "broker.logs=0"], "chatflow-server: broker.logs = 0 (from --set): must be a whole number from 1 to 1024"),
        (
            &["--listen", "nowhere"],
            "chatflow-server: server.listen = \"nowhere\" (from --listen): must be an IP address and port such as 127.0.0.1:8080; port 0 takes a free one",
        ),
        (
            &["run", "--admin-listen", "0.0.0.0:0"],
            "chatflow-server: server.admin_listen = \"0.0.0.0:0\" (from --admin-listen): must be an IP address and port such as 127.0.0.1:9090, or empty; \
             a loopback address unless admin.token is set",
        ),
        (
            &["--config", "gone.toml"],
            "chatflow-server: --config \"gone.toml\": No such file or directory (os error 2); it must be a readable TOML file",
        ),
    ] {
        assert_eq!(refused(args), expected);
        assert_eq!(refused(&[&["check-config"], args.strip_prefix(&["run"]).unwrap_or(args)].concat()), expected);
    }
}

#[test]
fn a_backend_that_there_isnt_is_a_fault_of_its_key() {
    for (args, key) in [
        (["--broker", "carrier-pigeon:"], "broker.url"),
        (["--store", "clay:tablet"], "store.url"),
        (["--cache", "squirrel:"], "cache.url"),
    ] {
        let line = refused(&[&["--listen", "127.0.0.1:0"], &args[..]].concat());
        assert!(line.starts_with(&format!("chatflow-server: {key} = \"{}\"", args[1])) && line.contains("must be"), "{line}");
    }
}

#[test]
fn a_backend_that_was_left_out_is_named_with_the_way_to_get_it() {
    for (url, feature, built) in [
        ("redis://ada:hunter2@h", "redis", cfg!(feature = "redis")),
        ("rediss-cluster://ada:hunter2@h,i", "redis", cfg!(feature = "redis")),
        ("amqps://ada:hunter2@h", "rabbitmq", cfg!(feature = "rabbitmq")),
        ("sqs://eu-west-1", "sqs", cfg!(feature = "sqs")),
    ] {
        if built {
            continue;
        }
        let line = refused(&["--listen", "127.0.0.1:0", "--broker", url]);
        let advice = format!("this program was built without the feature {feature}: cargo build -p chatflow-server --features {feature}");
        assert!(line.ends_with(&advice) && !line.contains("hunter2"), "{line}");
    }
}

#[test]
fn a_directory_through_a_broker_of_ones_own_makes_no_sense() {
    let line = refused(&["--listen", "127.0.0.1:0", "--store", "none", "--directory", "broker:"]);
    assert!(line.contains("cluster.directory = \"broker:\": the memory broker is this node's own"), "{line}");
    let line = refused(&["--listen", "127.0.0.1:0", "--store", "none", "--directory", "yellow-pages:"]);
    assert!(line.contains("cluster.directory = \"yellow-pages:\": there is no such backend; it must be"), "{line}");
}

#[test]
fn a_store_that_cant_be_opened_is_a_fault_and_leaks_no_password() {
    let line = refused(&["--listen", "127.0.0.1:0", "--store", "sqlite:/nowhere/at/all/chat.db"]);
    assert!(line.starts_with("chatflow-server: store.url = \"sqlite:/nowhere/at/all/chat.db\""), "{line}");
    let line = refused(&["--listen", "127.0.0.1:0", "--store", "postgres://ada:hunter2@db/chat"]);
    assert!(!line.contains("hunter2"), "{line}");
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let line = refused(&["--listen", &address]);
    assert!(line.starts_with(&format!("chatflow-server: server.listen = \"{address}\": the address is in use")), "{line}");
    assert!(line.contains("choose another"), "{line}");
}

#[test]
fn the_default_configuration_is_one_that_can_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let document = run(&["default-config"]).stdout;
    std::fs::write(folder.path().join("chatflow.toml"), &document).unwrap();
    let given = program(&folder).args(["check-config", "--config", "chatflow.toml"]).output().unwrap();
    assert!(given.status.success(), "{given:?}");
    let without_origin = |text: Vec<u8>| String::from_utf8(text).unwrap().replace(" # from \"chatflow.toml\"", "");
    assert_eq!(without_origin(given.stdout), without_origin(run(&["check-config"]).stdout));
}

#[test]
fn what_is_in_force_is_shown_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program(&folder);
    let output =
        command.env("CHATFLOW_ADMIN__TOKEN", "correct-horse-battery").args(["check-config", "--set", "broker.logs=3"]).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && shown.contains("logs = 3 # from --set\n"), "{shown}");
    assert!(shown.contains("token = \"…\" # from CHATFLOW_ADMIN__TOKEN\n") && !shown.contains("horse"), "{shown}");
}

#[test]
fn help_and_version_are_there() {
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    for word in [
        "check-config",
        "default-config",
        "--listen",
        "--admin-listen",
        "--node-id",
        "--public-url",
        "--broker",
        "--store",
        "--set",
        "Exit codes",
    ] {
        assert!(help.contains(word), "{word}");
    }
    assert_eq!(String::from_utf8(run(&["--version"]).stdout).unwrap(), format!("chatflow-server {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(run(&["--no-such-flag"]).status.code(), Some(2));
}

#[test]
fn the_environment_and_flags_reach_the_running_server() {
    let server = Server::start(&["--node-id", "ada-1", "--store", "memory:"]);
    assert_eq!(server.get("/health").json()["node"], "ada-1");
}

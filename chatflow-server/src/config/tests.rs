use std::time::Duration;

use super::keys::KEYS;
use super::*;

fn read(file: &str, environment: &[(&str, &str)], set: &[&str]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chatflow.toml");
    std::fs::write(&path, file).unwrap();
    let flags = Flags { file: Some(path), set: set.iter().map(ToString::to_string).collect(), ..Flags::default() };
    Layers::read(&flags, environment.iter().map(|(k, v)| (k.to_string(), v.to_string())))?.config()
}

#[test]
fn the_default_document_parses_back_to_the_defaults() {
    assert_eq!(read(&default_document(), &[], &[]).unwrap(), Config::default());
}

#[test]
fn every_key_is_described_and_every_description_is_of_a_key() {
    let toml::Value::Table(sections) = toml::Value::try_from(Config::default()).unwrap() else { unreachable!() };
    let keys = sections.iter().flat_map(|(section, keys)| keys.as_table().unwrap().keys().map(move |key| format!("{section}.{key}")));
    // The rates are among the limits; the engine's own names for them are not offered a second time.
    let mut keys: Vec<_> = keys.filter(|key| !key.starts_with("engine.publish_rate")).collect();
    let mut described: Vec<_> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    keys.sort();
    described.sort();
    assert_eq!(keys, described);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = "[broker]\nlogs = 2\n[limits]\nconnections = 2\nbody = 2048\n";
    let environment = [("CHATFLOW_BROKER__LOGS", "3"), ("CHATFLOW_LIMITS__CONNECTIONS", "3"), ("CHATFLOW_PORT", "tcp://ignored")];
    let config = read(file, &environment, &["broker.logs=4"]).unwrap();
    assert_eq!((config.broker.logs, config.limits.connections, config.limits.body), (4, 3, 2048));
}

#[test]
fn the_environment_can_say_every_type() {
    let config = read(
        "",
        &[
            ("CHATFLOW_SERVER__ORIGINS", "https://a.example, https://b.example:8443"),
            ("CHATFLOW_VALIDATOR__USERNAME_ALPHANUMERIC", "false"),
            ("CHATFLOW_VALIDATOR__USER_ID", "any"),
            ("CHATFLOW_VALIDATOR__MESSAGE", "1..2000"),
            ("CHATFLOW_ENGINE__PING", "1m 5s"),
            ("CHATFLOW_ENGINE__DELIVERY", "answer-only"),
            ("CHATFLOW_LIMITS__PUBLISH_RATE_ANONYMOUS", "7"),
            ("CHATFLOW_SERVER__ADMIN_LISTEN", "127.0.0.1:0"),
            ("CHATFLOW_NODE__ROLES", "api, gateway"),
            ("CHATFLOW_STORE__RETENTION", "30d"),
            ("CHATFLOW_LIMITS__TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
        ],
        &[],
    )
    .unwrap();
    assert_eq!(config.server.origins, ["https://a.example", "https://b.example:8443"]);
    assert_eq!(config.validator.limits().message, 1..=2000);
    assert_eq!(config.validator.limits().user_id, None);
    assert_eq!(config.engine.ping, Duration::from_secs(65));
    assert_eq!(config.store.retention, Duration::from_secs(30 * 86_400));
    assert_eq!(config.engine.delivery, chatflow_core::Delivery::AnswerOnly);
    assert_eq!(config.settings().publish_rate_anonymous, 7);
    assert!(config.server.admin_listen.is_some());
    assert_eq!(config.node.roles, [Role::Api, Role::Gateway]);
    assert!(config.limits.trusted_proxies.trust("::ffff:10.1.2.3".parse().unwrap()));
    assert!(!config.limits.trusted_proxies.trust("::2".parse().unwrap()));
}

#[test]
fn what_is_wrong_is_told_in_one_line_with_key_value_and_what_is_allowed() {
    for (set, expected) in [
        ("server.lisen=1", "\"server.lisen\" (from --set): there is no such key; did you mean server.listen?"),
        ("engine.publish_rate=1", "\"engine.publish_rate\" (from --set): there is no such key; did you mean limits.publish_rate?"),
        ("nothing.at_all=1", "\"nothing.at_all\" (from --set): there is no such key; `chatflow-server default-config` lists every key"),
        ("broker.logs=0", "broker.logs = 0 (from --set): must be a whole number from 1 to 1024"),
        ("broker.logs=many", "broker.logs = \"many\" (from --set): must be a whole number from 1 to 1024"),
        ("limits.body=-1", "limits.body = -1 (from --set): must be a whole number from 1024 to 16777216"),
        ("engine.ping=1ms", "engine.ping = \"1ms\" (from --set): must be a duration such as \"5s\", from 100ms to 3600s"),
        ("engine.ping=soon", "engine.ping = \"soon\" (from --set): must be a duration such as \"5s\", from 100ms to 3600s"),
        ("engine.delivery=mail", "engine.delivery = \"mail\" (from --set): must be one of broadcast, answer-only"),
        ("log.format=xml", "log.format = \"xml\" (from --set): must be one of auto, text, json"),
        ("validator.username_alphanumeric=maybe", "validator.username_alphanumeric = \"maybe\" (from --set): must be true or false"),
        ("validator.message=9..1", "validator.message = \"9..1\" (from --set): must be a range such as \"1..500\""),
        ("rooms.allow=#", "rooms.allow = \"#\" (from --set): must be room names and ranges of numbers such as \"1..20, lobby\", or empty"),
        ("node.id=a b", "node.id = \"a b\" (from --set): must be 1 to 64 of A-Z a-z 0-9 . _ -, or empty"),
        ("server.public_url=x", "server.public_url = \"x\" (from --set): must be an http:// or https:// URL without a path, or empty"),
        ("admin.token=short", "admin.token = \"…\" (from --set): must be 16 or more printable ASCII characters without spaces, or empty"),
        (
            "log.level=loud",
            "log.level = \"loud\" (from --set): must be error, warn, info, debug, trace, or a filter such as \"info,chatflow_core=debug\"",
        ),
        (
            "node.roles=gateway,boss",
            "node.roles = [\"gateway\", \"boss\"] (from --set): must be a list of one or more of gateway, history, api",
        ),
        ("node.roles=", "node.roles = [] (from --set): must be a list of one or more of gateway, history, api"),
        (
            "limits.trusted_proxies=10.0.0.0/33",
            "limits.trusted_proxies = [\"10.0.0.0/33\"] (from --set): must be a list of IP addresses and networks such as \"10.0.0.0/8\"",
        ),
        ("broker.prefix=a.b", "broker.prefix = \"a.b\" (from --set): must be 1 to 32 of A-Z a-z 0-9 _ -"),
        (
            "store.retention=299s",
            "store.retention = \"299s\" (from --set): must be 0s, or a duration such as \"30d\" that is no shorter than engine.dedup_window",
        ),
        (
            "store.retention=1mo",
            "store.retention = \"1mo\" (from --set): must be 0s, or a duration such as \"30d\" that is no shorter than engine.dedup_window",
        ),
        ("nonsense", "--set \"nonsense\": must be section.key=value"),
    ] {
        assert_eq!(read("", &[], &[set]).unwrap_err().to_string(), expected);
    }
    let error = read("", &[("CHATFLOW_SERVER__LISTEN", "x\ny")], &[]).unwrap_err().to_string();
    assert!(error.starts_with("server.listen = \"x\\ny\" (from CHATFLOW_SERVER__LISTEN): must be an IP address and port"), "{error}");
    let error = read("", &[], &["server.admin_listen=0.0.0.0:1"]).unwrap_err().to_string();
    assert!(error.contains("a loopback address unless admin.token is set"), "{error}");
}

#[test]
fn faults_of_a_file_are_told_with_the_file() {
    for (file, expected) in [
        ("[server]\nlisten = \"x", "line 2: "),
        ("[server]\nlisten = 5", "server.listen = 5 (from "),
        ("server = 5", "\"server\" (from "),
        ("[server]\nlisten = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"", "line 3: duplicate key"),
        ("[server]\norigins = [1]", "server.origins = [1] (from "),
        ("[server.listen]\nx = 1", "server.listen = { x = 1 } (from "),
    ] {
        let error = read(file, &[], &[]).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("chatflow.toml") && !error.contains('\n'), "{error}");
    }
    let gone = Flags { file: Some("/nowhere/chatflow.toml".into()), ..Flags::default() };
    let error = Layers::read(&gone, []).unwrap_err().to_string();
    assert!(error.starts_with("--config \"/nowhere/chatflow.toml\": No such file"), "{error}");
}

#[test]
fn nothing_that_is_shown_holds_a_secret() {
    let flags =
        Flags { set: vec!["admin.token=hunter2hunter2hunter2".into(), "broker.url=redis://ada:hunter2@h".into()], ..Flags::default() };
    let layers = Layers::read(&flags, []).unwrap();
    let config = layers.config().unwrap();
    let document = effective_document(&config, &layers);
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!document.contains("hunter2") && document.contains("redis://ada:…@h\" # from --set"), "{document}");
}

#[test]
fn a_room_may_have_another_name() {
    let rooms = RoomsSection { allow: "1..20".parse().unwrap(), strip_prefix: "room".into() };
    let room = |name: &str| rooms.room(chatflow_core::RoomId::new(name).unwrap()).map(String::from);
    assert_eq!((room("room7").as_deref(), room("7").as_deref(), room("room21"), room("room")), (Some("7"), Some("7"), None, None));
}

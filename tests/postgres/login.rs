//! Logins: passwords and where they come from.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use ordercast::internal::store::postgres::PgError;

use crate::common::{Cluster, TempDir};
use crate::{connect, row, try_connect};

#[test]
fn passwords_are_proven_by_scram_md5_and_in_clear() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.sql("SET password_encryption = 'scram-sha-256'; CREATE ROLE scram LOGIN PASSWORD 'pä:ss'");
    cluster.sql("SET password_encryption = 'md5'; CREATE ROLE md LOGIN PASSWORD 'pä:ss'");
    cluster.set_access(
        "host all scram 127.0.0.1/32 scram-sha-256\nhost all md 127.0.0.1/32 md5\nlocal all scram password",
    );
    for user in ["scram", "md"] {
        let mut session = connect(&cluster.url_of(&format!("{user}:p%C3%A4%3Ass"), "postgres"));
        assert_eq!(row(&mut session, "SELECT current_user::text").text(0), Ok(user));
        let wrong = try_connect(&cluster.url_of(&format!("{user}:other"), "postgres"));
        assert!(matches!(&wrong, Err(PgError::Server { code, .. }) if code == "28P01"), "{wrong:?}");
        let without = try_connect(&format!("{}?passfile=/nonexistent", cluster.url_of(user, "postgres")));
        assert!(matches!(without, Err(PgError::Unexpected(why)) if why.contains("password")));
    }
    let socket = cluster.socket_folder().display().to_string().replace('/', "%2F");
    let url = format!("postgres://scram:p%C3%A4%3Ass@{socket}:{}/postgres", cluster.port());
    assert_eq!(row(&mut connect(&url), "SELECT 1").int4(0), Ok(1));
}

#[test]
fn a_password_file_gives_the_password_of_its_host() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.sql("CREATE ROLE node LOGIN PASSWORD 'secret'");
    cluster.set_access("host all node 127.0.0.1/32 scram-sha-256");
    let folder = TempDir::new();
    let line = format!("127.0.0.1:{}:postgres:node:secret\n", cluster.port());
    let path = folder.write("pgpass", format!("127.0.0.1:1:*:*:wrong\n{line}"));
    let url = format!("{}?passfile={}", cluster.url_of("node", "postgres"), path.display());
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("the owner may");
    connect(&url);
    fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("the owner may");
    assert!(matches!(try_connect(&url), Err(PgError::Unexpected(why)) if why.contains("chmod 600")));
}

#[test]
fn a_database_that_is_missing_is_an_error_of_the_server() {
    let Some(cluster) = Cluster::start() else { return };
    let missing = try_connect(&cluster.url_of("postgres", "missing"));
    assert!(matches!(&missing, Err(PgError::Server { code, .. }) if code == "3D000"), "{missing:?}");
}

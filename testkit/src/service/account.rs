//! Services that refuse to run as root.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Uid, User};

/// Lets the service own its data, and run as whoever runs the tests, or as the user `name` (or nobody) where that is root.
pub(super) fn give(data: &Path, command: &mut Command, name: &str) {
    fs::set_permissions(data, Permissions::from_mode(0o700)).unwrap();
    command.env("LC_ALL", "C");
    if !Uid::effective().is_root() {
        return;
    }
    let user = |name| User::from_name(name).unwrap();
    let user = user(name).or_else(|| user("nobody")).expect("a user who is not root");
    own(data, user.uid.as_raw(), user.gid.as_raw());
    command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
}

fn own(path: &Path, user: u32, group: u32) {
    chown(path, Some(user), Some(group)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            own(&entry.unwrap().path(), user, group);
        }
    }
}

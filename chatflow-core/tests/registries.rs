//! The registry of the library against the public suite.

use std::sync::Arc;

use chatflow_core::conformance::registry::Subject;
use chatflow_core::registry::LocalRegistry;
use chatflow_core::{Settings, registry_suite};

registry_suite!(local, async {
    let mut settings = Settings::default();
    (settings.slow_messages, settings.recent_messages, settings.recent_bytes) = (64, 16, 16 << 20);
    Subject { registry: Arc::new(LocalRegistry::new(1, &settings, false)), slow_messages: 64, recent_messages: 16 }
});

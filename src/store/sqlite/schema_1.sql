-- The tables of tests/fixtures/schema.sql in SQLite's words: the same names, columns, defaults, keys and limits. Once
-- released, this file is never changed; what comes later is another migration.
--
-- Times are UTC, as CURRENT_TIMESTAMP writes them. Text that MySQL compares without regard to case is NOCASE where a
-- key needs it; accents are compared in the queries, so that any SQLite program can read and write this file.
-- AUTOINCREMENT, because an id that was shown is never given to another row.

CREATE TABLE settings (
  key_name   TEXT NOT NULL PRIMARY KEY COLLATE NOCASE CHECK (length(key_name) <= 100),
  value      TEXT NULL CHECK (length(CAST(value AS BLOB)) <= 65535),
  type       TEXT NOT NULL DEFAULT 'string' CHECK (type IN ('string', 'integer', 'boolean', 'json')),
  group_name TEXT NOT NULL DEFAULT 'general' CHECK (length(group_name) <= 60),
  label      TEXT NOT NULL CHECK (length(label) <= 120),
  updated_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT;

CREATE TABLE agents (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  name          TEXT NOT NULL CHECK (length(name) <= 120),
  email         TEXT NOT NULL UNIQUE COLLATE NOCASE CHECK (length(email) <= 255),
  password_hash TEXT NOT NULL CHECK (length(password_hash) <= 255),
  role          TEXT NOT NULL DEFAULT 'agent' CHECK (role IN ('admin', 'agent')),
  notification_preferences_json TEXT NULL CHECK (length(CAST(notification_preferences_json AS BLOB)) <= 65535),
  chat_handle   TEXT NULL UNIQUE COLLATE NOCASE CHECK (length(chat_handle) <= 80),
  is_active     INTEGER NOT NULL DEFAULT 1,
  created_at    TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
  updated_at    TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT;
CREATE INDEX idx_agents_active ON agents (is_active);

CREATE TABLE tickets (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  ticket_number TEXT NOT NULL UNIQUE COLLATE NOCASE CHECK (length(ticket_number) <= 40),
  subject       TEXT NOT NULL CHECK (length(subject) <= 255),
  deleted_at    TEXT NULL
) STRICT;

CREATE TABLE chat_channels (
  id             INTEGER PRIMARY KEY AUTOINCREMENT,
  name           TEXT NOT NULL CHECK (length(name) <= 80),
  slug           TEXT NOT NULL UNIQUE COLLATE NOCASE CHECK (length(slug) <= 100),
  description    TEXT NULL CHECK (length(description) <= 255),
  is_active      INTEGER NOT NULL DEFAULT 1,
  retention_days INTEGER NULL,
  created_by_agent_id INTEGER NULL REFERENCES agents (id) ON DELETE SET NULL,
  created_at     TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
  updated_at     TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT;
CREATE INDEX idx_channels_active ON chat_channels (is_active);

CREATE TABLE chat_channel_members (
  channel_id INTEGER NOT NULL REFERENCES chat_channels (id) ON DELETE CASCADE,
  agent_id   INTEGER NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
  can_post   INTEGER NOT NULL DEFAULT 1,
  added_by_agent_id INTEGER NULL REFERENCES agents (id) ON DELETE SET NULL,
  added_at   TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
  PRIMARY KEY (channel_id, agent_id)
) STRICT;
CREATE INDEX idx_members_agent ON chat_channel_members (agent_id, channel_id);

CREATE TABLE chat_threads (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  thread_type  TEXT NOT NULL DEFAULT 'direct' CHECK (thread_type = 'direct'),
  agent_one_id INTEGER NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
  agent_two_id INTEGER NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
  created_at   TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
  updated_at   TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
  last_message_at TEXT NULL,
  UNIQUE (agent_one_id, agent_two_id),
  CHECK (agent_one_id < agent_two_id)
) STRICT;
CREATE INDEX idx_threads_one ON chat_threads (agent_one_id, last_message_at);
CREATE INDEX idx_threads_two ON chat_threads (agent_two_id, last_message_at);

CREATE TABLE chat_messages (
  id                  INTEGER PRIMARY KEY AUTOINCREMENT,
  message_scope       TEXT NOT NULL CHECK (message_scope IN ('channel', 'direct')),
  channel_id          INTEGER NULL REFERENCES chat_channels (id) ON DELETE CASCADE,
  thread_id           INTEGER NULL REFERENCES chat_threads (id) ON DELETE CASCADE,
  sender_agent_id     INTEGER NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
  body_text           TEXT NOT NULL CHECK (length(CAST(body_text AS BLOB)) <= 65535),
  body_rendered_html  TEXT NULL CHECK (length(CAST(body_rendered_html AS BLOB)) <= 65535),
  metadata_json       TEXT NULL CHECK (json_valid(metadata_json)),
  created_at          TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
  edited_at           TEXT NULL,
  deleted_at          TEXT NULL,
  deleted_by_agent_id INTEGER NULL REFERENCES agents (id) ON DELETE SET NULL,
  CHECK ((message_scope = 'channel' AND channel_id IS NOT NULL AND thread_id IS NULL)
      OR (message_scope = 'direct' AND thread_id IS NOT NULL AND channel_id IS NULL))
) STRICT;
CREATE INDEX idx_messages_channel ON chat_messages (channel_id, id, created_at);
CREATE INDEX idx_messages_thread ON chat_messages (thread_id, id, created_at);
CREATE INDEX idx_messages_sender ON chat_messages (sender_agent_id, created_at);
CREATE INDEX idx_messages_created ON chat_messages (created_at);

CREATE TABLE chat_message_mentions (
  message_id         INTEGER NOT NULL REFERENCES chat_messages (id) ON DELETE CASCADE,
  mentioned_agent_id INTEGER NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
  created_at         TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
  PRIMARY KEY (message_id, mentioned_agent_id)
) STRICT;
CREATE INDEX idx_mentions_agent ON chat_message_mentions (mentioned_agent_id, created_at);

CREATE TABLE chat_message_reads (
  id                   INTEGER PRIMARY KEY AUTOINCREMENT,
  agent_id             INTEGER NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
  message_scope        TEXT NOT NULL CHECK (message_scope IN ('channel', 'direct')),
  channel_id           INTEGER NULL REFERENCES chat_channels (id) ON DELETE CASCADE,
  thread_id            INTEGER NULL REFERENCES chat_threads (id) ON DELETE CASCADE,
  last_read_message_id INTEGER NOT NULL DEFAULT 0,
  last_read_at         TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
  UNIQUE (agent_id, message_scope, channel_id),
  UNIQUE (agent_id, message_scope, thread_id),
  CHECK ((message_scope = 'channel' AND channel_id IS NOT NULL AND thread_id IS NULL)
      OR (message_scope = 'direct' AND thread_id IS NOT NULL AND channel_id IS NULL))
) STRICT;

CREATE TABLE chat_channel_notification_preferences (
  agent_id       INTEGER NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
  channel_id     INTEGER NOT NULL REFERENCES chat_channels (id) ON DELETE CASCADE,
  notify_enabled INTEGER NOT NULL DEFAULT 0,
  updated_at     TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
  PRIMARY KEY (agent_id, channel_id)
) STRICT;

CREATE TABLE agent_notifications (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  agent_id   INTEGER NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
  type       TEXT NOT NULL COLLATE NOCASE CHECK (length(type) <= 60),
  severity   TEXT NOT NULL DEFAULT 'info' CHECK (severity IN ('info', 'success', 'warning', 'danger')),
  title      TEXT NOT NULL CHECK (length(title) <= 180),
  body       TEXT NULL CHECK (length(CAST(body AS BLOB)) <= 65535),
  link       TEXT NULL CHECK (length(link) <= 255),
  data_json  TEXT NULL CHECK (length(CAST(data_json AS BLOB)) <= 65535),
  dedupe_key TEXT NULL COLLATE NOCASE CHECK (length(dedupe_key) <= 191),
  read_at    TEXT NULL,
  created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
  UNIQUE (agent_id, dedupe_key)
) STRICT;
CREATE INDEX idx_notifications_created ON agent_notifications (agent_id, created_at);
CREATE INDEX idx_notifications_read ON agent_notifications (agent_id, read_at);

CREATE TABLE agent_push_subscriptions (
  id               INTEGER PRIMARY KEY AUTOINCREMENT,
  agent_id         INTEGER NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
  endpoint         TEXT NOT NULL CHECK (length(CAST(endpoint AS BLOB)) <= 65535),
  endpoint_hash    TEXT NOT NULL UNIQUE COLLATE NOCASE CHECK (length(endpoint_hash) <= 64),
  p256dh           TEXT NOT NULL CHECK (length(p256dh) <= 255),
  auth             TEXT NOT NULL CHECK (length(auth) <= 255),
  content_encoding TEXT NOT NULL DEFAULT 'aes128gcm' CHECK (length(content_encoding) <= 32),
  user_agent       TEXT NULL CHECK (length(user_agent) <= 255),
  created_at       TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
  last_seen_at     TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT;
CREATE INDEX idx_push_agent ON agent_push_subscriptions (agent_id);

CREATE TABLE audit_log (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  actor_type   TEXT NOT NULL CHECK (actor_type IN ('agent', 'customer', 'system')),
  actor_id     INTEGER NULL,
  action       TEXT NOT NULL CHECK (length(action) <= 80),
  subject_type TEXT NOT NULL CHECK (length(subject_type) <= 40),
  subject_id   INTEGER NOT NULL,
  payload      TEXT NULL CHECK (json_valid(payload)),
  ip_address   TEXT NULL CHECK (length(ip_address) <= 45),
  created_at   TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT;

-- MySQL's ON UPDATE CURRENT_TIMESTAMP.
CREATE TRIGGER settings_updated AFTER UPDATE ON settings
WHEN NEW.updated_at IS OLD.updated_at BEGIN
  UPDATE settings SET updated_at = CURRENT_TIMESTAMP WHERE rowid = NEW.rowid;
END;
CREATE TRIGGER agents_updated AFTER UPDATE ON agents
WHEN NEW.updated_at IS OLD.updated_at BEGIN
  UPDATE agents SET updated_at = CURRENT_TIMESTAMP WHERE rowid = NEW.rowid;
END;
CREATE TRIGGER chat_channels_updated AFTER UPDATE ON chat_channels
WHEN NEW.updated_at IS OLD.updated_at BEGIN
  UPDATE chat_channels SET updated_at = CURRENT_TIMESTAMP WHERE rowid = NEW.rowid;
END;
CREATE TRIGGER chat_threads_updated AFTER UPDATE ON chat_threads
WHEN NEW.updated_at IS OLD.updated_at BEGIN
  UPDATE chat_threads SET updated_at = CURRENT_TIMESTAMP WHERE rowid = NEW.rowid;
END;
CREATE TRIGGER chat_channel_notification_preferences_updated AFTER UPDATE ON chat_channel_notification_preferences
WHEN NEW.updated_at IS OLD.updated_at BEGIN
  UPDATE chat_channel_notification_preferences SET updated_at = CURRENT_TIMESTAMP WHERE rowid = NEW.rowid;
END;

-- The rows that a fresh install has.
INSERT INTO settings (key_name, value, type, group_name, label) VALUES
 ('app_url',                             '',                'string',  'general', 'Application URL'),
 ('company_name',                        'Andrea Helpdesk', 'string',  'branding','Company Name'),
 ('favicon_url',                         '',                'string',  'branding','Favicon URL'),
 ('chat_enabled',                        '0',         'boolean', 'chat', 'Enable Internal Chat'),
 ('chat_default_channel_retention_days', '90',        'integer', 'chat', 'Default Channel Retention Days'),
 ('chat_direct_retention_days',          '90',        'integer', 'chat', 'Direct Message Retention Days'),
 ('chat_max_message_length',             '4000',      'integer', 'chat', 'Maximum Message Length'),
 ('chat_allow_external_links',           '1',         'boolean', 'chat', 'Allow External Links'),
 ('chat_websocket_enabled',              '1',         'boolean', 'chat', 'Enable WebSocket Service'),
 ('chat_websocket_autostart',            '1',         'boolean', 'chat', 'Start WebSocket Service Automatically'),
 ('chat_websocket_management_mode',      'cron',      'string',  'chat', 'WebSocket Management Mode'),
 ('chat_websocket_host',                 '127.0.0.1', 'string',  'chat', 'WebSocket Listen Host'),
 ('chat_websocket_port',                 '8090',      'integer', 'chat', 'WebSocket Listen Port'),
 ('chat_websocket_status',               'stopped',   'string',  'chat', 'WebSocket Status'),
 ('chat_websocket_pid',                  '',          'string',  'chat', 'WebSocket PID'),
 ('chat_websocket_last_seen_at',         '',          'string',  'chat', 'WebSocket Last Heartbeat'),
 ('chat_websocket_last_started_at',      '',          'string',  'chat', 'WebSocket Last Start'),
 ('chat_websocket_restart_requested',    '0',         'boolean', 'chat', 'WebSocket Restart Requested'),
 ('chat_websocket_stop_requested',       '0',         'boolean', 'chat', 'WebSocket Stop Requested'),
 ('push_vapid_public_key',               '',          'string',  'notifications', 'VAPID Public Key'),
 ('push_vapid_private_key',              '',          'string',  'notifications', 'VAPID Private Key'),
 ('push_vapid_subject',                  '',          'string',  'notifications', 'VAPID Subject'),
 ('push_last_send_failed_at',            '',          'string',  'notifications', 'Last Push Failure At'),
 ('push_last_send_failure',              '',          'string',  'notifications', 'Last Push Failure'),
 ('cache_enabled',                       '0',         'boolean', 'cache', 'Enable Application Cache'),
 ('cache_home',                          'cache',     'string',  'cache', 'Cache Directory'),
 ('cache_ttl_seconds',                   '60',        'integer', 'cache', 'Cache TTL Seconds'),
 ('redis_host',                          '127.0.0.1', 'string',  'cache', 'Redis Host'),
 ('redis_port',                          '6379',      'integer', 'cache', 'Redis Port'),
 ('redis_prefix',                        'andrea_helpdesk', 'string', 'cache', 'Redis Key Prefix'),
 ('redis_database',                      '1',         'integer', 'cache', 'Redis Database Number');

-- A dump is to be restored by the SQLite of every distribution: STRICT came with 3.37, and json_valid(NULL) is 0 before 3.45.
-- Neither changes what is stored, so the definitions alone are rewritten, as SQLite's documentation of ALTER TABLE describes.

PRAGMA writable_schema = ON;

UPDATE sqlite_schema SET sql = substr(sql, 1, length(sql) - length(' STRICT'))
WHERE type = 'table' AND sql LIKE '%) STRICT';

UPDATE sqlite_schema SET sql = replace(sql, 'CHECK (json_valid(metadata_json))',
  'CHECK (metadata_json IS NULL OR json_valid(metadata_json))')
WHERE type = 'table' AND name = 'chat_messages';

UPDATE sqlite_schema SET sql = replace(sql, 'CHECK (json_valid(payload))', 'CHECK (payload IS NULL OR json_valid(payload))')
WHERE type = 'table' AND name = 'audit_log';

PRAGMA writable_schema = RESET;

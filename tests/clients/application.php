<?php
/**
 * Plays the helpdesk's application as far as its query cache goes: answers SELECTs from the cache, as long as that has
 * them under the present version, and from the database otherwise. Nothing in here ever changes the version.
 *
 * Arguments: where the cache is, `redis HOST PORT DATABASE PREFIX` or `file FOLDER`, and before that the database's
 * socket, name, user and password. Each line on standard input is a SELECT with one value; each answer is a line.
 */

declare(strict_types=1);

interface Cache
{
    public function version(): string;

    public function get(string $key): ?string;

    public function set(string $key, string $value): void;
}

final class RedisCache implements Cache
{
    private Redis $redis;

    public function __construct(string $host, int $port, int $database, private string $prefix)
    {
        $this->redis = new Redis();
        $this->redis->connect($host, $port, 5.0);
        $this->redis->select($database);
    }

    public function version(): string
    {
        return (string) ($this->redis->get("{$this->prefix}:version") ?: '0');
    }

    public function get(string $key): ?string
    {
        $value = $this->redis->get("{$this->prefix}:{$key}");

        return $value === false ? null : $value;
    }

    public function set(string $key, string $value): void
    {
        $this->redis->setex("{$this->prefix}:{$key}", 3600, $value);
    }
}

final class FileCache implements Cache
{
    public function __construct(private string $folder)
    {
    }

    public function version(): string
    {
        return is_file("{$this->folder}/version") ? (string) file_get_contents("{$this->folder}/version") : '0';
    }

    public function get(string $key): ?string
    {
        $file = "{$this->folder}/" . sha1($key);

        return is_file($file) ? (string) file_get_contents($file) : null;
    }

    public function set(string $key, string $value): void
    {
        file_put_contents("{$this->folder}/" . sha1($key), $value);
    }
}

[, $socket, $name, $user, $password, $kind] = $argv;
$database = new PDO("mysql:unix_socket={$socket};dbname={$name};charset=utf8mb4", $user, $password);
$cache = $kind === 'redis'
    ? new RedisCache($argv[6], (int) $argv[7], (int) $argv[8], $argv[9])
    : new FileCache($argv[6]);

while (($query = fgets(STDIN)) !== false) {
    $query = trim($query);
    $key = $cache->version() . ':' . $query;
    $value = $cache->get($key);
    if ($value === null) {
        $value = (string) $database->query($query)->fetchColumn();
        $cache->set($key, $value);
    }
    echo $value, "\n";
}

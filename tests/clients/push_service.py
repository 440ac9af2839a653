"""A push service with an authority of its own, which plays the browser as well: it hands out subscriptions, takes pushes
over HTTPS, and opens each with libraries that others have written (http_ece, py_vapid). Nothing in here is shared with
the program under test.

It is told what to do by lines of JSON on standard input and answers each with one on standard output; what it starts
with is the first line. Beside the service it runs a trap: a port that no client may call.

    {"do": "subscribe", "name": …, "encoding": …}            the keys and the endpoint of a new subscription
    {"do": "answer", "name": …, "with": [{…}, …]}            what its next pushes are answered: status, headers, body,
                                                             delay in seconds; the last one stays
    {"do": "pushes"}                                         all pushes so far
    {"do": "trapped"}                                        how often the trap was called
"""

import base64
import datetime
import hashlib
import http.server
import ipaddress
import json
import os
import re
import socket
import ssl
import sys
import threading
import time

import http_ece
from cryptography import x509
from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from py_vapid import Vapid01, Vapid02

GOOD = {"status": 201, "headers": {}, "body": "", "delay": 0}


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def point(key):
    return key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


def certificates(folder):
    """An authority, and a certificate of it for this machine's own names; the paths of both."""
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)

    def certificate(name, key, issuer, issuer_key, is_authority):
        built = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        )
        if not is_authority:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return built.sign(issuer_key, hashes.SHA256())

    def named(name):
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])

    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = named("Authority of a test")
    root = certificate(authority, authority_key, authority, authority_key, True)
    leaf = certificate(named("localhost"), key, authority, authority_key, False)
    paths = os.path.join(folder, "ca.pem"), os.path.join(folder, "service.pem")
    with open(paths[0], "wb") as file:
        file.write(pem(root))
    with open(paths[1], "wb") as file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        file.write(pem(leaf))
    return paths


def install_keys(jwt_secret):
    """A key pair as an install has it: public, private, and that as the application encrypts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    private = b64url(key.private_numbers().private_value.to_bytes(32, "big"))
    vector = os.urandom(16)
    padder = padding.PKCS7(128).padder()
    padded = padder.update(private.encode()) + padder.finalize()
    cipher = Cipher(algorithms.AES(hashlib.sha256(jwt_secret.encode()).digest()), modes.CBC(vector))
    encryptor = cipher.encryptor()
    encrypted = vector + encryptor.update(padded) + encryptor.finalize()
    return {
        "public": b64url(point(key)),
        "private": private,
        "encrypted": base64.b64encode(encrypted).decode(),
    }


class Subscription:
    def __init__(self, encoding):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.auth = os.urandom(16)
        self.encoding = encoding
        self.answers = [GOOD]

    def next_answer(self):
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def parameters(header):
    """`a=b;c=d, e=f` as a dictionary."""
    pairs = (part.strip().split("=", 1) for part in re.split("[;,]", header))
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def verified(headers, origin):
    """The claims of a push, if its token is good."""
    scheme, _, credentials = headers["Authorization"].partition(" ")
    if headers["Content-Encoding"] == "aesgcm":
        assert scheme == "WebPush", scheme
        token, public = credentials, parameters(headers["Crypto-Key"])["p256ecdsa"]
        signed, signature = token.rsplit(".", 1)
        key = Vapid01.from_raw_public(public.encode())
        assert key.verify_token(signed.encode(), signature), "the signature is not good"
    else:
        # py_vapid does not know the blank that RFC 8292 has in its example.
        assert Vapid02.verify(scheme + " " + credentials.replace(", ", ",")), "the signature is not good"
        token, public = (parameters(credentials)[name] for name in "tk")
    header, claims = (json.loads(unb64url(part)) for part in token.split(".")[:2])
    assert header == {"typ": "JWT", "alg": "ES256"}, header
    assert claims["aud"] == origin, claims
    assert time.time() < claims["exp"] <= time.time() + 86400, claims
    return {"public": public, "subject": claims["sub"], "token": token}


def opened(subscription, headers, body):
    encoding = headers["Content-Encoding"]
    assert encoding == subscription.encoding, encoding
    if encoding == "aesgcm":
        return http_ece.decrypt(
            body,
            salt=unb64url(parameters(headers["Encryption"])["salt"]),
            dh=unb64url(parameters(headers["Crypto-Key"])["dh"]),
            private_key=subscription.key,
            auth_secret=subscription.auth,
            version="aesgcm",
        )
    return http_ece.decrypt(
        body, private_key=subscription.key, auth_secret=subscription.auth, version="aes128gcm"
    )


class Service:
    def __init__(self, folder, jwt_secret):
        self.subscriptions = {}
        self.pushes = []
        self.trapped = 0
        self.lock = threading.Lock()
        authority, own = certificates(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler(context))
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.trap = socket.create_server(("127.0.0.1", 0))
        for run in self.server.serve_forever, self.count_callers:
            threading.Thread(target=run, daemon=True).start()
        self.start = {
            "port": self.port,
            "trap": self.trap.getsockname()[1],
            "authority": authority,
            "keys": install_keys(jwt_secret),
        }

    def count_callers(self):
        while True:
            self.trap.accept()[0].close()
            self.trapped += 1

    def handler(self, context):
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                # The connection's own thread does the handshake: a slow one delays no other connection.
                self.request = context.wrap_socket(self.request, server_side=True)
                super().setup()

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.take(self, body)

            def log_message(self, *_):
                pass

        return Handler

    def take(self, request, body):
        name = request.path.rsplit("/", 1)[1]
        push = {
            "name": name,
            "at": time.monotonic(),
            "connection": request.client_address[1],
            "headers": dict(request.headers.items()),
        }
        with self.lock:
            subscription = self.subscriptions[name]
            answer = {**GOOD, **subscription.next_answer()}
        try:
            push["vapid"] = verified(request.headers, "https://" + request.headers["Host"])
            push["payload"] = json.loads(opened(subscription, request.headers, body))
        except Exception as fault:  # Whatever it is, the test is to see it.
            push["fault"] = repr(fault)
        with self.lock:
            self.pushes.append(push)
        time.sleep(answer["delay"])
        said = answer["body"].encode()
        request.send_response(answer["status"])
        for header, value in answer["headers"].items():
            request.send_header(header, value)
        if answer["headers"].get("Transfer-Encoding") == "chunked":
            said = b"%x\r\n%s\r\n0\r\n\r\n" % (len(said), said) if said else b"0\r\n\r\n"
        else:
            request.send_header("Content-Length", str(len(said)))
        request.end_headers()
        request.wfile.write(said)

    def subscribe(self, name, encoding):
        subscription = Subscription(encoding)
        with self.lock:
            self.subscriptions[name] = subscription
        return {"p256dh": b64url(point(subscription.key)), "auth": b64url(subscription.auth)}

    def do(self, order):
        if order["do"] == "subscribe":
            return self.subscribe(order["name"], order["encoding"])
        with self.lock:
            if order["do"] == "answer":
                self.subscriptions[order["name"]].answers = order["with"]
                return {}
            if order["do"] == "pushes":
                return {"pushes": list(self.pushes)}
        return {"trapped": self.trapped}


def main():
    folder, jwt_secret = sys.argv[1:]
    service = Service(folder, jwt_secret)

    def say(answer):
        print(json.dumps(answer), flush=True)

    say(service.start)
    for line in sys.stdin:
        say(service.do(json.loads(line)))


main()

#!/usr/bin/env python3
"""A small identity provider for tests and the demo: a key set behind https, and tokens signed with it.

    idp.py init FOLDER [NAME]               keys, a CA and a certificate for NAME (default idp.test) in FOLDER
    idp.py serve FOLDER ADDRESS PORT        https://NAME:PORT/jwks until killed
    idp.py token FOLDER ISSUER AUDIENCE SUBJECT [GROUP,...] [SECONDS]

Test equipment: it authenticates nobody. Needs openssl.
"""

import base64
import http.server
import json
import pathlib
import ssl
import subprocess
import sys
import time


def openssl(*args: str, data: bytes | None = None) -> bytes:
    return subprocess.run(["openssl", *args], input=data, check=True, capture_output=True).stdout


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def init(folder: pathlib.Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    openssl("genrsa", "-out", str(folder / "signing.key"), "2048")
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
            "-subj", "/CN=portcullis test CA", "-addext", "basicConstraints=critical,CA:TRUE",
            "-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.crt"))
    certificate(folder, "tls", [name])


def certificate(folder: pathlib.Path, stem: str, names: list[str]) -> None:
    sans = ",".join(f"DNS:{name}" for name in names)
    request = openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                      "-subj", f"/CN={names[0]}", "-keyout", str(folder / f"{stem}.key"))
    extensions = folder / f"{stem}.ext"
    extensions.write_text(f"subjectAltName={sans}\nextendedKeyUsage=serverAuth\n")
    signed = openssl("x509", "-req", "-days", "30", "-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key"),
                     "-CAcreateserial", "-extfile", str(extensions), data=request)
    (folder / f"{stem}.crt").write_bytes(signed)


def key_set(folder: pathlib.Path) -> bytes:
    modulus = openssl("rsa", "-in", str(folder / "signing.key"), "-noout", "-modulus").decode().split("=")[1].strip()
    key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "k1", "n": b64(bytes.fromhex(modulus)), "e": "AQAB"}
    return json.dumps({"keys": [key]}).encode()


def token(folder: pathlib.Path, issuer: str, audience: str, subject: str, groups: list[str], seconds: int) -> str:
    now = int(time.time())
    claims = {"iss": issuer, "aud": audience, "sub": subject, "groups": groups, "iat": now, "exp": now + seconds}
    head = b64(json.dumps({"alg": "RS256", "typ": "JWT", "kid": "k1"}).encode())
    signed = f"{head}.{b64(json.dumps(claims).encode())}"
    signature = openssl("dgst", "-sha256", "-sign", str(folder / "signing.key"), data=signed.encode())
    return f"{signed}.{b64(signature)}"


def serve(folder: pathlib.Path, address: str, port: int) -> None:
    document = key_set(folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/jwks"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(document) if found else 0))
            self.end_headers()
            if found:
                self.wfile.write(document)

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    server = http.server.ThreadingHTTPServer((address, port), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


def main(args: list[str]) -> None:
    match args:
        case ["init", folder]:
            init(pathlib.Path(folder), "idp.test")
        case ["init", folder, name]:
            init(pathlib.Path(folder), name)
        case ["certificate", folder, stem, *names] if names:
            certificate(pathlib.Path(folder), stem, names)
        case ["serve", folder, address, port]:
            serve(pathlib.Path(folder), address, int(port))
        case ["token", folder, issuer, audience, subject, *rest]:
            groups = rest[0].split(",") if rest and rest[0] else []
            print(token(pathlib.Path(folder), issuer, audience, subject, groups, int(rest[1]) if len(rest) > 1 else 3600))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])

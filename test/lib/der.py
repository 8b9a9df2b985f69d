"""der: certificates made by hand, for tests that need ones which no tool would make.

    ca = Issuer.of(pki.dir / "ca.crt", pki.dir / "ca.key")
    key, public = new_key()
    text = pem(certificate(ca, name("alice"), public, not_after="210101000000Z"))

Signing is openssl's; everything else is put together here (X.690, RFC 5280).
"""

import base64
import itertools
import os
import subprocess
from dataclasses import dataclass

SEQUENCE, SET, INTEGER, BITS, OCTETS, UTF8, TIME = 0x30, 0x31, 2, 3, 4, 0x0c, 0x17
_serials = itertools.count(1000)


def tlv(tag, *parts):
    body = b"".join(parts)
    n = len(body)
    size = bytes([n]) if n < 128 else bytes([0x80 | (n.bit_length() + 7) // 8]) + n.to_bytes((n.bit_length() + 7) // 8, "big")
    return bytes([tag]) + size + body


def integer(x):
    return tlv(INTEGER, x.to_bytes(x.bit_length() // 8 + 1, "big"))


def oid(text):
    first, second, *rest = map(int, text.split("."))
    out = bytearray([first * 40 + second])
    for number in rest:
        septets = [number & 127]
        while number := number >> 7:
            septets.append(number & 127 | 128)
        out += bytes(reversed(septets))
    return tlv(6, bytes(out))


def split(data):
    """The elements of what is inside of a constructed one: (tag, whole element, content) each."""
    out, at = [], 0
    while at < len(data):
        size, head = data[at + 1], 2
        if size & 0x80:
            head += size & 0x7f
            size = int.from_bytes(data[at + 2:at + head], "big")
        out.append((data[at], data[at:at + head + size], data[at + head:at + head + size]))
        at += head + size
    return out


def name(*common, kind=UTF8):
    """A relative name for each; bytes are taken as they are."""
    return tlv(SEQUENCE, *(tlv(SET, tlv(SEQUENCE, oid("2.5.4.3"), tlv(kind, c if isinstance(c, bytes) else c.encode())))
                           for c in common))


ECDSA = tlv(SEQUENCE, oid("1.2.840.10045.4.3.2"))
RSA = tlv(SEQUENCE, oid("1.2.840.113549.1.1.11"), tlv(5))
BASIC, USAGE, FOR = "2.5.29.19", "2.5.29.15", "2.5.29.37"
CLIENT, SERVER = "1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.1"


def extension(number, value, critical=False):
    return tlv(SEQUENCE, oid(number), tlv(1, b"\xff") if critical else b"", tlv(OCTETS, value))


def openssl(*args, stdin=None):
    return subprocess.run(["openssl", *map(str, args)], input=stdin, check=True, capture_output=True).stdout


def new_key(curve="prime256v1"):
    """(private key as PEM, public key as DER)."""
    key = openssl("ecparam", "-genkey", "-name", curve, "-noout")
    return key, openssl("pkey", "-pubout", "-outform", "DER", stdin=key)


def rsa_public(bits, exponent):
    """A public key that belongs to nobody."""
    modulus = 1 << (bits - 1) | int.from_bytes(os.urandom(bits // 8 - 1), "big") | 1
    return tlv(SEQUENCE, tlv(SEQUENCE, oid("1.2.840.113549.1.1.1"), tlv(5)),
               tlv(BITS, b"\0", tlv(SEQUENCE, integer(modulus), integer(exponent))))


@dataclass
class Issuer:
    name: bytes
    key: object = None  # a path; None: what it signs is signed by nobody
    algorithm: bytes = ECDSA

    @classmethod
    def of(cls, crt, key):
        """From files, as PEM."""
        whole = split(openssl("x509", "-in", crt, "-outform", "DER"))[0][2]
        fields = split(split(whole)[0][2])
        return cls(fields[5][1], key)  # version, serial, algorithm, issuer, dates, subject

    def sign(self, data):
        if self.key:
            return openssl("dgst", "-sha256", "-sign", self.key, stdin=data)
        if self.algorithm == RSA:
            return b"\1" + os.urandom(1023)
        return tlv(SEQUENCE, integer(0x1234567 << 400), integer(0x7654321 << 400))


def certificate(issuer, subject, public, ca=False, not_before="200101000000Z", not_after="491231235959Z", uses=(CLIENT,), more=()):
    """DER. more: further extensions."""
    extensions = [extension(BASIC, tlv(SEQUENCE, tlv(1, b"\xff") if ca else b""), True)]
    extensions += [extension(FOR, tlv(SEQUENCE, *map(oid, uses)))] if uses and not ca else []
    body = tlv(SEQUENCE, tlv(0xa0, integer(2)), integer(next(_serials)), issuer.algorithm, issuer.name,
               tlv(SEQUENCE, tlv(TIME, not_before.encode()), tlv(TIME, not_after.encode())), subject, public,
               tlv(0xa3, tlv(SEQUENCE, *extensions, *more)))
    return tlv(SEQUENCE, body, issuer.algorithm, tlv(BITS, b"\0", issuer.sign(body)))


def pem(*ders):
    return "".join(f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE-----\n" for der in ders)

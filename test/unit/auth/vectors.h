/*
 * vectors.h - entries made by other programs: mosquitto_passwd 2.0.11 ($7$, $6$), and the argon2 tool with
 * the parameters of mosquitto 2.1 (47104 KiB, one pass, salt and hash of 64 bytes) and with small ones. 2.1
 * makes $7$ and $6$ with salts of 64 bytes; those come from Python's hashlib, with the bytes 0 to 63.
 */
#ifndef TEST_UNIT_AUTH_VECTORS_H
#define TEST_UNIT_AUTH_VECTORS_H

#define V7_SECRET                               \
    "$7$101$TPYmNjg5ihf6b+/w$/3KbtF+nTymTspgo/" \
    "4+MD1+dGHfMb+FQXIYSWHR8jQrtksBp4bUk4YjXlILIfwq6ZAP05YplK82hiE9s5lUXRg=="
/* the password is "pässwörd mit Leer" */
#define V7_UMLAUT  \
    "$7$1000$f9J/" \
    "WWvd97jymthJ$Xe83ufRkieSV+i56JSsDYVcfX97xrpR+T34tCw0Gch26he9LRgT+da3zN8j0gXRXvjyme7PITGqyfbFzUEm5Aw=="
/* the password is 300 times 'x': longer than a block of SHA512 */
#define V7_LONG                \
    "$7$101$BY6M3sL5yKrv6WfK$" \
    "d7nKGcsC9QKAdGtrKL1XgsJMps76ySWU2T5IET2dvlgtWILUesvcDe3TmIp4IsnvixEaXPGrVtRFArjD86nb8Q=="
#define V6_SECRET6                                                         \
    "$6$JPbxNInqadiBiWjB$HhPW7MaOaiAjU4cLYXJZV+IPl5oGIfNrxFGwbszb48fuLVO/" \
    "9r1aLtdy8XGj6oJU61zuRZGrk4Sg58IgF9OV2Q=="
#define VA_SECRET21                                                                           \
    "$argon2id$v=19$m=47104,t=1,p=1$"                                                         \
    "U1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTUw$" \
    "ULsBDK1BaYTy66ezqBwm+2lo/NtRXisKlGU5hKS+0htzuBrb7Dkz2mYtKJBbmRUHO5y7IvsKwpQ1mG+ygr6vFQ"
#define V7_SECRET21                                                                    \
    "$7$1000$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1" \
    "Njc4OTo7PD0+Pw==$qIcy6qLtDR+R0TYjvrdsLCJmMlCm/xT5U7kQ65vt1go7SZiPOITRjoRzZINDr1R" \
    "ghu21FfuCnrs212bLusMN1Q=="
#define V6_SECRET21                                                                    \
    "$6$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4O" \
    "To7PD0+Pw==$B/TUnkpIoSL2E0Dzl0n62jjBNLFYgD1D2BIdM9+2WSNGSyQhQn9lG3JzWvNBem83zBYb" \
    "x2NvAC4tX6kZI4gFMQ=="
#define VA_SECRET \
    "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$+v0rf6ETYAIpqJIjJyARZ3W3zqJlkf+0TRXzsLHmR6o"

/* A device token's entry, computed with Python: hashlib.blake2b(TOKEN, digest_size=32, key=bytes(range(16)))
 */
#define TOKEN    "brmbl_j1ZK85-rEqQGRCde1qwg13KQgijpxmetQg3uGlQmS0c"
#define VT_TOKEN "$blake2b$AAECAwQFBgcICQoLDA0ODw$e6STenLHNNaFO4vMqOeH2QZVSM5J5IYGqOWXXhLrKsU"

#endif

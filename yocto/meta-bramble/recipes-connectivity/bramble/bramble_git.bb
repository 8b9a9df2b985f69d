SUMMARY = "A standalone MQTT broker for small gateways"
DESCRIPTION = "MQTT 3.1.1 over TCP, TLS and WebSocket in one small daemon, secure as started: password hashes, ACL, \
one event loop, zero-copy fan-out."
SECTION = "net"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://LICENSE;md5=88ee2f7f43668b81f3cd12708492e727"
CVE_PRODUCT = "bramble:bramble"

# Where the source is kept is the integrator's choice: set it in local.conf (see the layer's README).
BRAMBLE_GIT ?= "git:///usr/src/bramble;protocol=file"
SRC_URI = "${BRAMBLE_GIT};branch=main;destsuffix=${BP}"
SRCREV ?= "${AUTOREV}"
PV = "0.1.0+git"

# libwebsockets without TLS of its own, as a static archive: bramble brings mbedTLS to it (README, "Dependencies").
# local.conf: PACKAGECONFIG:pn-libwebsockets = "static"
DEPENDS = "libev libwebsockets libsodium mbedtls sqlite3 uthash"

inherit pkgconfig systemd useradd

EXTRA_OEMAKE = "V=1 DEPS=system PACKAGES=no DASHBOARD=no prefix=${prefix} sysconfdir=${sysconfdir} \
    unitdir=${systemd_system_unitdir} sysusersdir=${nonarch_libdir}/sysusers.d tmpfilesdir=${nonarch_libdir}/tmpfiles.d \
    OBJCOPY='${OBJCOPY}'"

do_compile() {
    oe_runmake all
}

do_install() {
    oe_runmake install DESTDIR=${D}
}

SYSTEMD_SERVICE:${PN} = "bramble.service"
# without a certificate and a password file it does not start: enable it when they are there
SYSTEMD_AUTO_ENABLE = "disable"

USERADD_PACKAGES = "${PN}"
USERADD_PARAM:${PN} = "--system --home-dir /var/lib/bramble --no-create-home --shell /sbin/nologin --user-group bramble"

CONFFILES:${PN} = "${sysconfdir}/bramble/bramble.conf"
FILES:${PN} += "${systemd_system_unitdir} ${nonarch_libdir}/sysusers.d ${datadir}/bramble"

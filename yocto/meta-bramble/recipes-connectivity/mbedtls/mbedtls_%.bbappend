# bramble does TLS handshakes on worker threads, so mbedTLS must be built with its locks. Nothing is changed unless the
# distribution asks for it (DISTROOVERRIDES, see the layer's README): other users of mbedTLS keep their signature.
do_configure:prepend:bramble() {
    ${S}/scripts/config.py -f ${S}/include/mbedtls/mbedtls_config.h set MBEDTLS_THREADING_C
    ${S}/scripts/config.py -f ${S}/include/mbedtls/mbedtls_config.h set MBEDTLS_THREADING_PTHREAD
}

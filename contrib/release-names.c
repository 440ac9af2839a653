/* Linked into the static program. It looks host names up in /etc/hosts and by DNS alone, whatever nsswitch.conf says: what else
 * stands there (myhostname, resolve, mdns) are libraries of the host's own glibc, and loading one into a program that has another
 * glibc inside ends it, on Debian 11 with SIGABRT, on Debian 13 with SIGFPE. */
#include <nss.h>

__attribute__((constructor)) static void look_up_without_plugins(void)
{
    __nss_configure_lookup("hosts", "files dns");
}

package dovecot

import (
	"fmt"
	"path/filepath"
	"strings"
)

// settings are what both syntaxes are written from.
type settings struct {
	Options
	dir         string
	user, group string // whom everything runs as
	imaps       int
	pop3s       int
	submissions int
}

// services are written alike for 2.3 and 2.4. Nothing listens without TLS, nothing changes its root folder: that
// would need root.
func (s settings) services() string {
	return fmt.Sprintf(`base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = %[1]s/log
listen = 127.0.0.1
default_internal_user = %[2]s
default_internal_group = %[3]s
default_login_user = %[2]s
default_process_limit = 1200
default_client_limit = 4000
first_valid_uid = 1
first_valid_gid = 1
mail_max_userip_connections = %[6]d
mailbox_idle_check_interval = 1 secs
ssl = required
service anvil {
  chroot =
}
service stats {
  chroot =
}
service imap {
  process_limit = 1200
}
service imap-login {
  chroot =
  service_count = 0
  inet_listener imap {
    port = 0
  }
  inet_listener imaps {
    port = %[4]d
    ssl = yes
  }
}
service pop3-login {
  chroot =
  service_count = 0
  inet_listener pop3 {
    port = 0
  }
  inet_listener pop3s {
    port = %[5]d
    ssl = yes
  }
}
`, s.dir, s.user, s.group, s.imaps, s.pop3s, s.connections()) + s.submission()
}

// submission is the door for sending: what it takes goes to a server behind it.
func (s settings) submission() string {
	if s.Relay == "" {
		return ""
	}
	host, port, _ := strings.Cut(s.Relay, ":")
	return fmt.Sprintf(`hostname = localhost
submission_relay_host = %s
submission_relay_port = %s
submission_max_recipients = 1000
submission_max_mail_size = 31457280
service submission-login {
  chroot =
  inet_listener submission {
    port = 0
  }
  inet_listener submissions {
    port = %d
    ssl = yes
  }
}
`, host, port, s.submissions)
}

// protocols are the doors that are open.
func (s settings) protocols() string {
	if s.Relay != "" {
		return "imap pop3 submission"
	}
	return "imap pop3"
}

func (s settings) connections() int {
	if s.Connections > 0 {
		return s.Connections
	}
	return 100
}

// namespace is of the one place where all folders are.
func (s settings) namespace() string {
	prefix := ""
	if s.Prefix != "" {
		prefix = "  prefix = " + s.Prefix + "\n"
	}
	return "namespace inbox {\n  inbox = yes\n  separator = .\n" + prefix + "  mailbox Sent {\n    special_use = \\Sent\n  }\n}\n"
}

// before24 is the syntax of Debian 12 and Ubuntu 22.04 and 24.04.
func (s settings) before24() string {
	var b strings.Builder
	b.WriteString(s.services())
	fmt.Fprintf(&b, `protocols = %[4]s
disable_plaintext_auth = yes
ssl_cert = <%[1]s/cert.pem
ssl_key = <%[1]s/key.pem
mail_location = maildir:%[1]s/home/%%u/Maildir
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%%u %[1]s/users
}
userdb {
  driver = static
  args = uid=%[2]s gid=%[3]s home=%[1]s/home/%%u
}
`, s.dir, s.user, s.group, s.protocols())
	b.WriteString(s.namespace())
	if s.ReuseUIDL {
		b.WriteString("pop3_uidl_format = %08Xu\n")
	}
	if s.QuotaKiB > 0 {
		fmt.Fprintf(&b, `mail_plugins = quota
protocol imap {
  mail_plugins = quota imap_quota
}
plugin {
  quota = count:User quota
  quota_vsizes = yes
  quota_rule = *:storage=%dK
}
`, s.QuotaKiB)
	}
	if s.Rights {
		quota := ""
		if s.QuotaKiB > 0 {
			quota = " imap_quota"
		}
		fmt.Fprintf(&b, `mail_plugins = $mail_plugins acl
protocol imap {
  mail_plugins = $mail_plugins imap_acl%s
}
plugin {
  acl = vfile::cache_secs=0
}
`, quota)
	}
	return b.String()
}

// since24 is the syntax of Debian 13: every setting has its place by name, and variables are %{}.
func (s settings) since24() string {
	var b strings.Builder
	b.WriteString("dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n")
	b.WriteString(s.services())
	fmt.Fprintf(&b, `protocols = %[4]s
auth_allow_cleartext = no
ssl_server_cert_file = %[1]s/cert.pem
ssl_server_key_file = %[1]s/key.pem
mail_driver = maildir
mail_path = %[1]s/home/%%{user}/Maildir
passdb passwd-file {
  default_password_scheme = plain
  passwd_file_path = %[1]s/users
}
userdb static {
  fields {
    uid = %[2]s
    gid = %[3]s
    home = %[1]s/home/%%{user}
  }
}
`, s.dir, s.user, s.group, s.protocols())
	b.WriteString(s.namespace())
	if s.ReuseUIDL {
		b.WriteString("pop3_uidl_format = %{uid | hex(8)}\n")
	}
	if s.QuotaKiB > 0 {
		fmt.Fprintf(&b, `mail_plugins {
  quota = yes
}
protocol imap {
  mail_plugins {
    imap_quota = yes
  }
}
quota "User quota" {
  quota_storage_size = %dK
}
`, s.QuotaKiB)
	}
	if s.Rights {
		b.WriteString(`mail_plugins {
  acl = yes
}
protocol imap {
  mail_plugins {
    imap_acl = yes
  }
}
acl_driver = vfile
`)
	}
	return b.String()
}

// text of the configuration for a version such as "2.3.19.1 (9b53102964)".
func (s settings) text(version string) (string, error) {
	var major, minor int
	_, err := fmt.Sscanf(version, "%d.%d", &major, &minor)
	if err != nil || major < 2 || major == 2 && minor < 3 {
		return "", fmt.Errorf("devenv/dovecot: version %q is not known here: 2.3 or later is needed", version)
	}
	if major > 2 || minor > 3 {
		return s.since24(), nil
	}
	return s.before24(), nil
}

func (s settings) file() string { return filepath.Join(s.dir, "dovecot.conf") }

package main

import (
	"fmt"
	"strings"
)

// config is the configuration of one process: the one that hosts all targets, or one target alone.
func (w *world) config(process, level string) string {
	var b strings.Builder
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	line("# Written by ceralacca-dev for process %q; the next start writes it again.", process)
	line("log: {level: %s, format: text}", level)
	switch {
	case w.nats != nil:
		line("nats: {url: %q, cert_file: %q, key_file: %q, ca_file: %q}", w.natsURL, w.certs.Cert, w.certs.Key, w.certs.CA)
	case w.natsURL != "":
		line("nats: {url: %q}", w.natsURL)
	default:
		line("nats: {embedded: {dir: %q}}", w.path("nats"))
	}
	url := w.postgres.URL(w.database)
	line("database: {url: %q, assume_role: true, admin_url: %q, migrate_at_start: %t}", url, url, process == "all")
	line("blob: {fs: {dir: %q}}", w.path("blob"))
	line("rpc:\n  listen: %q", w.ports[portKey("rpc", process)])
	line("  tls: {cert_file: %q, key_file: %q, ca_file: %q}", w.certs.Cert, w.certs.Key, w.certs.CA)
	if process != "all" {
		line("  peers:")
		for _, name := range targetNames() {
			if name != process {
				line("    %s: %q", name, w.ports[portKey("rpc", name)])
			}
		}
	}
	line("admin: {listen: %q}", w.ports[portKey("admin", process)])
	if web := w.ports[portKey("http", process)]; web != "" {
		line("http: {listen: %q}", web)
	}
	if w.impatient {
		line("breaker: {open: 500ms}")
	}
	w.targetSections(line)
	return b.String()
}

// targetSections are the sections of all targets; a process reads those of the targets that it hosts.
func (w *world) targetSections(line func(format string, a ...any)) {
	line("tenancy: {bootstrap_operator_key_file: %q}", w.path("secrets", "operator.key"))
	line("invoice: {}")
	line("signer:\n  vault: {address: %q, role_id_file: %q, secret_id_file: %q}", w.vault.Addr,
		w.path("secrets", "signer.role-id"), w.path("secrets", "signer.secret-id"))
	line("  tsa: [{name: sandbox, url: %q, ca_file: %q}]", w.sdi.TSAURL, w.path("sdi", "ca.crt"))
	line("  verification: {roots_file: %q}", w.path("sdi", "ca.crt"))
	line("  providers:")
	line("    - {name: sandbox-sws, kind: sws, address: %q, ca_file: %q, issuers_file: %q, codes: {\"9000\": wrong, \"9001\": locked, \"9002\": spent, \"9004\": busy}}",
		w.sdi.RemoteSign.SWSURL, w.path("sdi", "ca.crt"), w.path("sdi", "ca.crt"))
	if w.phones != nil {
		line("  authorization: {sms: {url: %q, token_file: %q}}", "http://"+w.ports["messages"], w.path("secrets", "messages.token"))
		line("  csc: {url: %q, name: SANDBOX Ceralacca}", w.cscURL())
	}
	line("sdi-gateway:\n  transmitter: %s\n  endpoint: %q", transmitter, w.sdi.SdIURL)
	line("  client_cert_file: %q\n  client_key_file: %q\n  ca_file: %q", w.path("sdi", "client.crt"), w.path("sdi", "client.key"), w.path("sdi", "ca.crt"))
	line("  callback: {listen: %q, cert_file: %q, key_file: %q}", w.ports["callback"], w.path("sdi", "server.crt"), w.path("sdi", "server.key"))
	line("  inbound: {path: /ricezione, notify_endpoint: %q}", w.sdi.NotifyURL)
	if w.impatient {
		line("  pec: {enabled: true, retry_failed: 500ms}\n  call_timeout: 5s\n  resend_after: 2s\n  retry_every: 500ms\n  retry_most: 2s")
	} else {
		line("  pec: {enabled: true}")
	}
	line("pec-gateway:\n  vault: {address: %q, role_id_file: %q, secret_id_file: %q}", w.vault.Addr,
		w.path("secrets", "pec-gateway.role-id"), w.path("secrets", "pec-gateway.secret-id"))
	line("  allow_networks: [127.0.0.0/8]\n  ca_file: %q\n  sandbox: {imap: %q, pop3: %q, smtp: %q}", w.path("sdi", "ca.crt"), w.sdi.PEC.IMAPSAddr, w.sdi.PEC.POP3SAddr, w.sdi.PEC.SMTPSAddr)
	line("  desk: {log_credential: %s/credentials/-}", archiveCompany)
	if w.impatient {
		line("  poll_every: 1s\n  retry_every: 500ms")
	}
	line("conservation:\n  credential: %s/credentials/-", archiveCompany)
	line("  contract: Development only, no contract stands behind this archive")
	line("  responsible: {formal_name: SANDBOX Conservation, id: VATIT-%s, role: sandbox, deed: SANDBOX appointment without effect}", transmitter[2:])
	line("  tsa: [{name: sandbox, url: %q, ca_file: %q}]", w.sdi.TSAURL, w.path("sdi", "ca.crt"))
	line("  log: {origin: sandbox.ceralacca.example/log, key_file: %q, every: 200ms}", w.path("secrets", "log.key"))
	line("  storage: {primary: {fs: {dir: %q}}, second: {fs: {dir: %q}}, probe: 1s}", w.path("archive", "primary"), w.path("archive", "second"))
	line("  disposal: {quiet: 1s}")                       // nobody stores anything here that is written down later
	line("  revocation: {allow_networks: [127.0.0.0/8]}") // where the sandbox publishes its list
	line("  checks: {settling: 2s}")                      // no event is on its way for longer here
	line("notification:\n  secret_key_file: %q\n  allow_networks: [127.0.0.0/8]", w.path("secrets", "notification.key"))
	line("  smtp: {address: %q, from: ceralacca@sandbox.example, tls: none}", w.sdi.SMTPAddr)
	if w.impatient {
		line("  retry_schedule: [500ms, 1s, 2s, 4s, 8s, 16s]")
	}
}

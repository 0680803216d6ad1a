package pecgateway

import (
	"maps"
	"slices"
	"strings"

	"ceralacca.dev/services/internal/fault"
)

// servers of a provider, host:port, TLS from the first byte.
type servers struct{ imap, pop3, smtp string }

// presets are what the providers publish on their own pages. Hosts that nobody could check with the
// provider are left out: such a mailbox is added with the servers spelt out.
func presets(sandbox SandboxConfig) map[string]servers {
	known := map[string]servers{
		"aruba":     {imap: "imaps.pec.aruba.it:993", pop3: "pop3s.pec.aruba.it:995", smtp: "smtps.pec.aruba.it:465"},
		"legalmail": {imap: "mbox.cert.legalmail.it:993", smtp: "sendm.cert.legalmail.it:465"}, // username is an id, not the address
		"namirial":  {imap: "imap.namirialpec.it:993", smtp: "smtp.namirialpec.it:465"},
		"register":  {imap: "imap.pec.register.it:993"}, // the server for sending has to be given
		"generic":   {},
	}
	if sandbox != (SandboxConfig{}) {
		known["sandbox"] = servers{imap: sandbox.IMAP, pop3: sandbox.POP3, smtp: sandbox.SMTP}
	}
	return known
}

// serversOf completes the given servers by the preset's. Faults: Invalid PROVIDER_UNKNOWN.
func (s *Service) serversOf(provider string, given servers) (servers, error) {
	preset, ok := s.presets[provider]
	if !ok {
		names := slices.Sorted(maps.Keys(s.presets))
		return servers{}, fault.Invalid("PROVIDER_UNKNOWN", "mailbox.provider: there is no preset %q: use one of %s", provider, strings.Join(names, ", ")).
			WithField("mailbox.provider", "PROVIDER_UNKNOWN", "is no preset")
	}
	return servers{imap: or(given.imap, preset.imap), pop3: or(given.pop3, preset.pop3), smtp: or(given.smtp, preset.smtp)}, nil
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

package sdigateway

import (
	"errors"
	"net"
	"net/url"
	"strings"
	"time"

	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/run"
)

// Config of the sdi-gateway.
type Config struct {
	// Transmitter is the fiscal identity under which files are sent, country first: IT01234567897.
	// It is the first part of every file name and the subject of the accreditation.
	Transmitter string `yaml:"transmitter"`
	// Endpoint is SdI's RiceviFile address. Production and test addresses come with the accreditation.
	Endpoint string `yaml:"endpoint"`
	// ClientCertFile and ClientKeyFile are the client certificate that SdI issued (CN SDI-<fiscal id>), PEM.
	ClientCertFile string `yaml:"client_cert_file"`
	ClientKeyFile  string `yaml:"client_key_file"`
	// CAFile holds the certificates that SdI's own are checked against, PEM: its CA is a private one.
	CAFile string `yaml:"ca_file"`
	// Callback is where SdI delivers its messages.
	Callback CallbackConfig `yaml:"callback"`
	// Inbound is where SdI delivers the invoices that the tenants' companies receive.
	Inbound InboundConfig `yaml:"inbound"`
	// CallTimeout bounds one RiceviFile or NotificaEsito call. Default 1m.
	CallTimeout time.Duration `yaml:"call_timeout"`
	// ResendAfter is how long receipts are awaited before a call with an unknown outcome is repeated,
	// always under the same file name. Default 2m.
	ResendAfter time.Duration `yaml:"resend_after"`
	// RetryEvery is the pause after the first call that found SdI away; it doubles with each that does. Default 10s.
	RetryEvery time.Duration `yaml:"retry_every"`
	// RetryMost is the longest such pause. Default 1m.
	RetryMost time.Duration `yaml:"retry_most"`
	// DrainRate is how many files a second leave the backlog after an outage or a pause, of all processes
	// together; 0 sets no bound. In any span of s seconds at most drain_rate·s and a quarter of a second's more begin,
	// one more at rates below 8. Default 200.
	DrainRate float64 `yaml:"drain_rate"`
	// DeadlineEvery is how often terms are looked at. Default 1m.
	DeadlineEvery time.Duration `yaml:"deadline_every"`
	// DeadlineNotice is how long before its end the customer is reminded of a term that is theirs. Default 24h.
	DeadlineNotice time.Duration `yaml:"deadline_notice"`
	// ReceiptCAFile holds the authorities that sign SdI's messages, PEM. Without it the signatures are checked
	// and their signers are not judged.
	ReceiptCAFile string `yaml:"receipt_ca_file"`
	// Workers is how many files are sent at the same time. Default 16.
	Workers int `yaml:"workers"`
	// Channels are the ways to SdI in order of preference: a new document takes the first that is healthy.
	// SDICOOP and SDIFTP; default SDICOOP alone.
	Channels []string `yaml:"channels"`
	// ChannelsOf gives tenants (tenants/T) or companies (tenants/T/companies/C) another order.
	ChannelsOf map[string][]string `yaml:"channels_of"`
	// FTP is the server to which SdI's SDIFTP client comes; no listen address, no such channel.
	FTP FTPConfig `yaml:"ftp"`
	// PEC is certified mail as a channel of companies that have a mailbox.
	PEC PECConfig `yaml:"pec"`
}

// CallbackConfig of the TrasmissioneFatture endpoint.
type CallbackConfig struct {
	// Listen is the address of the HTTPS listener, host:port.
	Listen string `yaml:"listen"`
	// CertFile and KeyFile are the server certificate that SdI issued, PEM.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// ClientCAFile holds the certificates that SdI's client certificate is checked against; default ca_file.
	ClientCAFile string `yaml:"client_ca_file"`
	// ClientNames are the common names that may deliver messages; any that the CA vouches for when empty.
	ClientNames []string `yaml:"client_names"`
}

// InboundConfig of the RicezioneFatture endpoint. Without path and listen nothing is received.
type InboundConfig struct {
	// Path of the endpoint on the callback listener, such as /ricezione. With listen it may stay empty: any path.
	Path string `yaml:"path"`
	// Listen is the address of a listener of its own, host:port; the callback listener when empty. It asks for
	// the same client certificates.
	Listen string `yaml:"listen"`
	// CertFile and KeyFile are its server certificate, PEM; default: the callback's.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// NotifyEndpoint is SdI's address for the outcomes of public bodies (SdIRiceviNotifica). Without it
	// outcomes are refused.
	NotifyEndpoint string `yaml:"notify_endpoint"`
}

// on says whether invoices are received at all.
func (c *InboundConfig) on() bool { return c.Path != "" || c.Listen != "" }

func (c *InboundConfig) problems() []error {
	var problems []error
	if c.Path != "" && !strings.HasPrefix(c.Path, "/") {
		problems = append(problems, run.BadField("inbound.path", "%q does not begin with /", c.Path))
	}
	if c.Listen != "" {
		_, _, err := net.SplitHostPort(c.Listen)
		if err != nil {
			problems = append(problems, run.BadField("inbound.listen", "%q is not host:port: %v", c.Listen, err))
		}
	}
	u, err := url.Parse(c.NotifyEndpoint)
	if c.NotifyEndpoint != "" && (err != nil || u.Scheme != "https" || u.Host == "") {
		problems = append(problems, run.BadField("inbound.notify_endpoint", "%q is not an https URL; SdI gives the address with the accreditation", c.NotifyEndpoint))
	}
	if c.NotifyEndpoint != "" && !c.on() {
		problems = append(problems, run.BadField("inbound.notify_endpoint", "there is nothing to answer: set inbound.path (such as /ricezione) or inbound.listen too"))
	}
	return problems
}

func defaultConfig() Config {
	return Config{CallTimeout: time.Minute, ResendAfter: 2 * time.Minute, RetryEvery: 10 * time.Second, Workers: 16,
		RetryMost: time.Minute, DrainRate: 200, DeadlineEvery: time.Minute, DeadlineNotice: 24 * time.Hour,
		Channels: []string{channelCoop}, FTP: defaultFTP(), PEC: defaultPEC()}
}

// Validate says which value cannot work.
func (c *Config) Validate() error {
	if c.Callback.ClientCAFile == "" {
		c.Callback.ClientCAFile = c.CAFile
	}
	if c.Inbound.CertFile == "" && c.Inbound.KeyFile == "" {
		c.Inbound.CertFile, c.Inbound.KeyFile = c.Callback.CertFile, c.Callback.KeyFile
	}
	problems := c.Inbound.problems()
	_, err := c.sender()
	if err != nil {
		problems = append(problems, run.BadField("transmitter",
			"%q is not a country code and a fiscal id, such as IT01234567897: %v", c.Transmitter, err))
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		problems = append(problems, run.BadField("endpoint", "%q is not an https URL; SdI gives the address with the accreditation", c.Endpoint))
	}
	_, _, err = net.SplitHostPort(c.Callback.Listen)
	if err != nil {
		problems = append(problems, run.BadField("callback.listen", "%q is not host:port: %v", c.Callback.Listen, err))
	}
	if c.Workers < 1 || c.Workers > 256 {
		problems = append(problems, run.BadField("workers", "%d is not between 1 and 256", c.Workers))
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"call_timeout", c.CallTimeout}, {"resend_after", c.ResendAfter}, {"retry_every", c.RetryEvery}, {"deadline_every", c.DeadlineEvery}} {
		if d.value < 100*time.Millisecond {
			problems = append(problems, run.BadField(d.key, "%s is less than 100ms: too often", d.value))
		}
	}
	if c.RetryMost < c.RetryEvery {
		problems = append(problems, run.BadField("retry_most", "%s is less than retry_every (%s)", c.RetryMost, c.RetryEvery))
	}
	if c.DrainRate < 0 {
		problems = append(problems, run.BadField("drain_rate", "%v is negative; 0 sets no bound", c.DrainRate))
	}
	if c.DeadlineNotice < 0 {
		problems = append(problems, run.BadField("deadline_notice", "%s is negative", c.DeadlineNotice))
	}
	problems = append(problems, c.validateChannels()...)
	problems = append(problems, c.PEC.problems()...)
	return errors.Join(problems...)
}

// sender is the fiscal identity as file names have it.
func (c *Config) sender() (sdi.FileName, error) {
	id := strings.ToUpper(c.Transmitter)
	if len(id) < 4 {
		return sdi.FileName{}, errors.New("too short")
	}
	name := sdi.FileName{Paese: id[:2], ID: id[2:], Progressivo: "1", Ext: sdi.ExtXML}
	return name, name.Validate()
}

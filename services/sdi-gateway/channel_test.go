package sdigateway

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/sdiftp"
)

func TestChoose(t *testing.T) {
	up := func(name string) channelHealth { return channelHealth{name: name} }
	down := func(name string) channelHealth { return channelHealth{name: name, reason: "away"} }
	for name, c := range map[string]struct {
		preferred []string
		health    []channelHealth
		want      string
	}{
		"one":                        {[]string{channelCoop}, []channelHealth{up(channelCoop)}, channelCoop},
		"one and it is down":         {[]string{channelCoop}, []channelHealth{down(channelCoop), up(channelFTP)}, channelCoop},
		"the first":                  {[]string{channelFTP, channelCoop}, []channelHealth{up(channelCoop), up(channelFTP)}, channelFTP},
		"the second":                 {[]string{channelFTP, channelCoop}, []channelHealth{up(channelCoop), down(channelFTP)}, channelCoop},
		"none: it waits where it is": {[]string{channelFTP, channelCoop}, []channelHealth{down(channelCoop), down(channelFTP)}, channelFTP},
		"nothing known yet":          {[]string{channelFTP, channelCoop}, nil, channelFTP},
		"not configured":             {[]string{channelFTP, channelCoop}, []channelHealth{up(channelCoop)}, channelCoop},
	} {
		require.Equal(t, c.want, choose(c.preferred, c.health), name)
	}
}

func TestPreferred(t *testing.T) {
	c := Config{Channels: []string{"a"}, ChannelsOf: map[string][]string{"tenants/t": {"b"}, "tenants/t/companies/c": {"c"}}}
	require.Equal(t, []string{"c"}, c.preferred("tenants/t/companies/c/invoices/i"))
	require.Equal(t, []string{"b"}, c.preferred("tenants/t/companies/d/invoices/i"))
	require.Equal(t, []string{"a"}, c.preferred("tenants/u/companies/c/invoices/i"))
}

func TestFTPHealth(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for name, c := range map[string]struct {
		facts channelFacts
		up    bool
	}{
		"never used":                       {channelFacts{}, true},
		"taken a minute ago":               {channelFacts{contact: ago(time.Minute)}, true},
		"waits, and somebody was here":     {channelFacts{contact: ago(time.Minute), shown: ago(3 * time.Hour)}, true},
		"waits, and nobody came":           {channelFacts{contact: ago(5 * time.Hour), shown: ago(2 * time.Hour)}, false},
		"waits since a moment":             {channelFacts{contact: ago(5 * time.Hour), shown: ago(time.Minute)}, true},
		"never anybody here":               {channelFacts{shown: ago(2 * time.Hour)}, false},
		"withdrawn":                        {channelFacts{contact: ago(5 * time.Hour), withdrawn: ago(time.Hour)}, false},
		"withdrawn, and then somebody":     {channelFacts{contact: ago(time.Minute), withdrawn: ago(time.Hour)}, true},
		"refused":                          {channelFacts{contact: ago(time.Minute), refused: ago(time.Minute), accepted: ago(time.Hour)}, false},
		"refused long ago: one more trial": {channelFacts{contact: ago(time.Minute), refused: ago(2 * time.Hour), accepted: ago(3 * time.Hour)}, true},
		"accepted since":                   {channelFacts{contact: ago(time.Minute), refused: ago(2 * time.Minute), accepted: ago(time.Minute)}, true},
	} {
		require.Equal(t, c.up, ftpHealth(c.facts, now, time.Hour, time.Hour) == "", name)
	}
}

func TestEnough(t *testing.T) {
	f := FTPConfig{SupportFiles: 10, SupportSize: 1000}
	require.False(t, f.enough(0, 0, time.Hour, time.Minute), "nothing is never enough")
	require.False(t, f.enough(9, 999, 59*time.Second, time.Minute))
	require.True(t, f.enough(10, 1, 0, time.Minute), "many")
	require.True(t, f.enough(1, 1000, 0, time.Minute), "large")
	require.True(t, f.enough(1, 1, time.Minute, time.Minute), "old")
}

func TestCompareBooks(t *testing.T) {
	const a, b, c, d = "FI.a", "FI.b", "FI.c", "FI.d"
	books := map[string]book{a: {"ACCEPTED", true}, b: {"TAKEN", true}, c: {"WITHDRAWN", false}}
	recent := map[string]bool{a: true, b: true, c: true}
	require.Empty(t, compareBooks(sdiftp.FI, []string{a, b, a}, books, recent))
	got := map[string]string{}
	for _, x := range compareBooks(sdiftp.FI, []string{a, c, d}, books, recent) {
		got[x.name] = x.problem[:len("SDIFTP_NOT_O")]
	}
	require.Equal(t, map[string]string{b: "SDIFTP_NOT_R", c: "SDIFTP_TAKEN", d: "SDIFTP_NOT_O"}, got)
	lost := compareBooks(sdiftp.FO, []string{"FO.x"}, nil, nil)
	require.Len(t, lost, 1)
	require.Contains(t, lost[0].problem, "SDIFTP_NOT_RECEIVED")
}

func TestConfigOfChannels(t *testing.T) {
	valid := func() Config {
		c := defaultConfig()
		c.Transmitter = "IT01234567897"
		return c
	}
	c := valid()
	require.Empty(t, c.validateChannels())
	c.FTP.Listen = "127.0.0.1:2222"
	c.Channels = []string{channelFTP, channelCoop}
	require.Empty(t, c.validateChannels())
	require.Equal(t, "01234567897", c.FTP.Node, "the transmitter's own")
	for name, change := range map[string]func(*Config){
		"unknown":      func(c *Config) { c.Channels = []string{"PEC"} },
		"none":         func(c *Config) { c.Channels = nil },
		"twice":        func(c *Config) { c.Channels = []string{channelCoop, channelCoop} },
		"no server":    func(c *Config) { c.Channels = []string{channelFTP} },
		"override":     func(c *Config) { c.ChannelsOf = map[string][]string{"acme": {channelCoop}} },
		"address":      func(c *Config) { c.FTP.Listen = "2222" },
		"node":         func(c *Config) { c.FTP.Listen, c.FTP.Node = "127.0.0.1:1", "x" },
		"support size": func(c *Config) { c.FTP.Listen, c.FTP.SupportSize = "127.0.0.1:1", 0 },
	} {
		c := valid()
		change(&c)
		require.NotEmpty(t, c.validateChannels(), name)
	}
}

package smtp_test

import (
	"log/slog"
	"net"
	"net/smtp"
	"testing"
	"time"

	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/fault"
	sink "ceralacca.dev/services/sandbox/smtp"
	"github.com/stretchr/testify/require"
)

const message = "From: a@example.it\r\nTo: b@example.it\r\nSubject: =?utf-8?q?Fattura_n=C2=B0_1?=\r\n\r\n.\r\ncorpo\r\n"

func start(t *testing.T) (*sink.Sink, *fault.Registry, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	faults := &fault.Registry{}
	s := sink.New(func() time.Time { return time.Unix(1e9, 0) }, faults, slog.New(slog.DiscardHandler))
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return s, faults, l.Addr().String()
}

func TestSinkKeepsMail(t *testing.T) {
	s, _, addr := start(t)
	body := "From: a@example.it\r\nSubject: =?utf-8?q?Fattura_n=C2=B0_1?=\r\n\r\n.corpo\r\n"
	require.NoError(t, smtp.SendMail(addr, nil, "a@example.it", []string{"b@example.it", "c@example.it"}, []byte(body)))
	got := s.Mails("B@example.it")
	require.Len(t, got, 1)
	require.Equal(t, "Fattura n° 1", got[0].Subject)
	require.Equal(t, []string{"b@example.it", "c@example.it"}, got[0].To)
	require.Equal(t, body, got[0].Data, "dot-stuffing undone, bytes unchanged")
	require.Empty(t, s.Mails("z@example.it"))
	s.Clear()
	require.Empty(t, s.Mails(""))
}

func TestSinkFails(t *testing.T) {
	s, faults, addr := start(t)
	for to, want := range map[string]string{"permerror@x.it": "550", "temperror@x.it": "451", "full@x.it": "452"} {
		err := smtp.SendMail(addr, nil, "a@x.it", []string{to}, []byte(message))
		require.ErrorContains(t, err, want)
	}
	require.Error(t, smtp.SendMail(addr, nil, "a@x.it", []string{"cut@x.it"}, []byte(message)))
	for kind, want := range map[string]string{client.FaultMailReject: "550", client.FaultMailDefer: "451", client.FaultMailCut: ""} {
		_, err := faults.Add(client.Fault{Kind: kind})
		require.NoError(t, err)
		err = smtp.SendMail(addr, nil, "a@x.it", []string{"b@x.it"}, []byte(message))
		require.ErrorContains(t, err, want)
	}
	require.Empty(t, s.Mails(""), "a refused message is not kept")
	require.NoError(t, smtp.SendMail(addr, nil, "a@x.it", []string{"b@x.it"}, []byte(message)))
	require.Len(t, s.Mails(""), 1, "faults are spent")
}

package pec

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestD2NothingIsFetched: a daticert.xml that names a DTD, a stylesheet or a namespace elsewhere is read, by itself and in a
// message, and nobody is asked for a name or called. Before, both traps are shown to work. TESTPLAN D2.
func TestD2NothingIsFetched(t *testing.T) {
	var asked, called atomic.Int32
	before := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		asked.Add(1)
		return nil, errors.New("the resolver is closed")
	}}
	defer func() { net.DefaultResolver = before }()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			called.Add(1)
			_ = c.Close()
		}
	}()
	near, far := "http://"+l.Addr().String()+"/postacert.dtd", "https://www.telecompost.it/dtd/postacert.dtd"
	for _, url := range []string{near, far} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		require.Error(t, err)
	}
	require.Positive(t, asked.Load(), "the trap for names")
	require.Positive(t, called.Load(), "the trap for calls")
	names, calls := asked.Load(), called.Load()
	for _, url := range []string{near, far} {
		xml := strings.Replace(sampleDaticert, "?>\n", fmt.Sprintf("?>\n<!DOCTYPE postacert SYSTEM \"%s\">\n<?xml-stylesheet type=\"text/xsl\" href=\"%s\"?>\n", url, url), 1)
		xml = strings.Replace(xml, "<postacert ", fmt.Sprintf(`<postacert xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="%s" `, url), 1)
		require.Equal(t, 4, strings.Count(xml, url)+strings.Count(xml, "www.w3.org"))
		d, _, err := ParseDaticert([]byte(xml))
		require.NoError(t, err)
		require.Equal(t, "1@pec.alfa.test", d.Identificativo)
		r, err := ReadBytes([]byte(strings.ReplaceAll("X-Ricevuta: avvenuta-consegna\nFrom: posta-certificata@pec.beta.test\nMIME-Version: 1.0\n"+
			"Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; micalg=sha-256; boundary=OUT\n\n--OUT\nContent-Type: multipart/mixed; boundary=IN\n\n"+
			"--IN\nContent-Type: text/plain\n\nricevuta\n--IN\nContent-Type: application/xml; name=daticert.xml\nContent-Transfer-Encoding: 8bit\n\n"+xml+
			"\n--IN--\n\n--OUT\nContent-Type: application/pkcs7-signature; name=smime.p7s\n\nx\n--OUT--\n", "\n", "\r\n")))
		require.NoError(t, err)
		require.NotNil(t, r.Daticert, "%v", r.Findings)
		_, err = r.Verify(Verification{Now: at})
		require.NoError(t, err)
	}
	require.Equal(t, names, asked.Load(), "somebody was asked for a name")
	require.Equal(t, calls, called.Load(), "somebody was called")
}

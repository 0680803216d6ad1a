package ers_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/ers"
	"ceralacca.dev/services/format/tsp"
)

// clerk is an authority whose clock the test moves.
type clerk struct {
	pki  *cmstest.PKI
	auth *tsp.Authority
	now  time.Time
}

func newClerk(t testing.TB, years int) *clerk {
	t.Helper()
	c := &clerk{pki: cmstest.New(t), now: cmstest.Now}
	c.certify(t, years)
	return c
}

// certify gives the authority a certificate that lasts some years from the clerk's now.
func (c *clerk) certify(t testing.TB, years int) {
	t.Helper()
	p := c.pki.Issue(t, "TSA", cmstest.NewECDSA(t), cmstest.TimeStamping, func(x *x509.Certificate) {
		x.NotBefore, x.NotAfter = c.now.Add(-time.Hour), c.now.AddDate(years, 0, 0)
	})
	serial := big.NewInt(0)
	c.auth = &tsp.Authority{
		Certificate: p.Cert, Chain: p.Chain[1:], Key: p.Key, Policy: asn1.ObjectIdentifier{2, 999, 1},
		Now: func() time.Time { return c.now }, Serial: func() *big.Int { return serial.Add(serial, big.NewInt(1)) },
	}
}

func (c *clerk) stamp(t testing.TB, h crypto.Hash, digest []byte) []byte {
	t.Helper()
	req, err := (&tsp.Request{Hash: h, Digest: digest, CertReq: true}).Marshal()
	require.NoError(t, err)
	answer, err := c.auth.Respond(context.Background(), req)
	require.NoError(t, err)
	resp, err := tsp.ParseResponse(answer)
	require.NoError(t, err)
	require.NoError(t, resp.Err())
	return resp.Token
}

// seal stamps a batch and gives its records.
func (c *clerk) seal(t testing.TB, h crypto.Hash, subjects ...ers.Subject) []*ers.Record {
	t.Helper()
	b, err := ers.NewBatch(h, subjects)
	require.NoError(t, err)
	require.Equal(t, h, b.Hash())
	s, err := b.Seal(c.stamp(t, h, b.Root()))
	require.NoError(t, err)
	var out []*ers.Record
	for i := range subjects {
		der, err := s.Record(i)
		require.NoError(t, err)
		r, err := ers.Parse(der)
		require.NoError(t, err)
		require.Equal(t, der, r.Raw)
		out = append(out, r)
	}
	return out
}

func docs(prefix string, n int) (out []ers.Object) {
	for i := range n {
		out = append(out, ers.Bytes(fmt.Appendf(nil, "%s %d", prefix, i)))
	}
	return out
}

func faultOf(t require.TestingT, err error) ers.Fault {
	var e *ers.EvidenceError
	require.ErrorAs(t, err, &e)
	require.NotEmpty(t, e.Error())
	return e.Fault
}

// A life of thirty years: stamped, stamped again before each certificate ends, hashed anew with
// a stronger algorithm, stamped again.
func TestThirtyYears(t *testing.T) {
	c := newClerk(t, 5)
	group := docs("unit", 3)
	c.pki.Root.NotAfter = cmstest.Now.AddDate(100, 0, 0) // the pool below is not asked: roots are judged elsewhere
	r := c.seal(t, crypto.SHA256, ers.Initial(docs("other", 1)...), ers.Initial(group...), ers.Initial(docs("third", 1)...))[1]
	rep, err := r.Verify(group, ers.VerifyOptions{Whole: true, At: c.now.AddDate(4, 0, 0)})
	require.NoError(t, err)
	require.Equal(t, cmstest.Now, rep.Since)
	require.Equal(t, c.now.AddDate(5, 0, 0), rep.Until)
	_, err = r.Verify(group, ers.VerifyOptions{At: c.now.AddDate(6, 0, 0)})
	require.Equal(t, ers.FaultLate, faultOf(t, err))

	for year := 4; year <= 28; year += 4 {
		c.now = cmstest.Now.AddDate(year, 0, 0)
		c.certify(t, 5)
		subject, h := ers.Restamp(r), r.Chains[len(r.Chains)-1].Stamps[0].Hash
		if year == 16 {
			subject, h = ers.Rehash(r, group...), crypto.SHA512
		}
		r = c.seal(t, h, ers.Initial(docs("new", 1)...), subject)[1]
	}
	require.Len(t, r.Chains, 2)
	require.Len(t, r.Chains[0].Stamps, 4)
	require.Len(t, r.Chains[1].Stamps, 4)
	require.Equal(t, []crypto.Hash{crypto.SHA256, crypto.SHA512}, r.Hashes)
	horizon := map[crypto.Hash]time.Time{crypto.SHA256: cmstest.Now.AddDate(20, 0, 0), crypto.SHA512: cmstest.Now.AddDate(30, 0, 0)}
	rep, err = r.Verify(group, ers.VerifyOptions{Whole: true, At: cmstest.Now.AddDate(29, 0, 0), Horizon: horizon})
	require.NoError(t, err)
	require.Equal(t, cmstest.Now, rep.Since)
	require.Equal(t, cmstest.Now.AddDate(30, 0, 0), rep.Until, "the algorithm ends before the certificate")
	require.Len(t, rep.Stamps, 8)
	text, err := json.Marshal(rep)
	require.NoError(t, err)
	require.Contains(t, string(text), `"hash":"SHA-512"`)

	horizon[crypto.SHA256] = cmstest.Now.AddDate(15, 0, 0)
	rep, err = r.Verify(group, ers.VerifyOptions{Horizon: horizon})
	require.Equal(t, ers.FaultLate, faultOf(t, err), "SHA-256 had fallen a year before the tree was made anew")
	require.Len(t, rep.Faults, 1)
	require.Equal(t, 1, rep.Faults[0].Chain)
	horizon[crypto.SHA512] = cmstest.Now.AddDate(20, 0, 0)
	delete(horizon, crypto.SHA256)
	_, err = r.Verify(group, ers.VerifyOptions{At: cmstest.Now.AddDate(29, 0, 0), Horizon: horizon})
	require.Equal(t, ers.FaultLate, faultOf(t, err))
	_, err = r.Verify(group, ers.VerifyOptions{At: cmstest.Now.AddDate(2, 0, 0)})
	require.Equal(t, ers.FaultOrder, faultOf(t, err), "judged at a time before the last stamp")

	// judged by roots as well, for as long as the root lasts
	short := newClerk(t, 9)
	one := short.seal(t, crypto.SHA384, ers.Initial(group...))[0]
	_, err = one.Verify(group, ers.VerifyOptions{Roots: short.pki.Pool(), Whole: true})
	require.NoError(t, err)
	_, err = one.Verify(group, ers.VerifyOptions{Roots: c.pki.Pool()})
	require.Equal(t, ers.FaultToken, faultOf(t, err))
	var token *tsp.TokenError
	require.ErrorAs(t, err, &token)
	require.Equal(t, tsp.FaultTrust, token.Fault)
}

// Whatever the sizes, every record of a batch verifies with its own data, and with no other's.
func TestBatches(t *testing.T) {
	c := newClerk(t, 5)
	rapid.Check(t, func(rt *rapid.T) {
		h := rapid.SampledFrom([]crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}).Draw(rt, "hash")
		var groups [][]ers.Object
		var subjects []ers.Subject
		for i := range rapid.IntRange(1, 40).Draw(rt, "subjects") {
			g := docs(fmt.Sprintf("subject %d", i), rapid.IntRange(1, 4).Draw(rt, "group"))
			groups, subjects = append(groups, g), append(subjects, ers.Initial(g...))
		}
		records := c.seal(t, h, subjects...)
		i := rapid.IntRange(0, len(records)-1).Draw(rt, "record")
		rep, err := records[i].Verify(groups[i], ers.VerifyOptions{Whole: len(groups[i]) > 1})
		require.NoError(rt, err)
		require.Equal(rt, cmstest.Now, rep.Since)
		other := ers.Bytes([]byte("another"))
		_, err = records[i].Verify([]ers.Object{other}, ers.VerifyOptions{})
		require.Equal(rt, ers.FaultData, faultOf(rt, err))
		_, err = records[i].Verify(append(groups[i][:len(groups[i]):len(groups[i])], other), ers.VerifyOptions{})
		require.Equal(rt, ers.FaultData, faultOf(rt, err))
		if len(groups[i]) > 1 {
			_, err = records[i].Verify(groups[i][1:], ers.VerifyOptions{Whole: true})
			require.Equal(rt, ers.FaultGroup, faultOf(rt, err))
			_, err = records[i].Verify(groups[i][1:], ers.VerifyOptions{})
			require.NoError(rt, err)
		}
		if j := rapid.IntRange(0, len(records)-1).Draw(rt, "other"); j/2 != i/2 {
			_, err = records[j].Verify(groups[i], ers.VerifyOptions{})
			require.Equal(rt, ers.FaultData, faultOf(rt, err))
		}
	})
}

// outside lists the bytes of a record that are in no time-stamp token.
func outside(r *ers.Record) (at []int) {
	inside := make([]bool, len(r.Raw))
	for _, c := range r.Chains {
		for _, s := range c.Stamps {
			from := bytes.Index(r.Raw, s.TokenRaw)
			for i := range s.TokenRaw {
				inside[from+i] = true
			}
		}
	}
	for i, in := range inside {
		if !in {
			at = append(at, i)
		}
	}
	return at
}

// aged is a record with two chains of two stamps, and its data.
func aged(t testing.TB) (*ers.Record, []ers.Object) {
	t.Helper()
	c := newClerk(t, 9)
	group := docs("unit", 2)
	r := c.seal(t, crypto.SHA256, ers.Initial(group...), ers.Initial(docs("x", 1)...))[0]
	for i, subject := range []func() ers.Subject{
		func() ers.Subject { return ers.Restamp(r) }, func() ers.Subject { return ers.Rehash(r, group...) }, func() ers.Subject { return ers.Restamp(r) },
	} {
		c.now = c.now.AddDate(1, 0, 0)
		h := crypto.SHA256
		if i > 0 {
			h = crypto.SHA512
		}
		r = c.seal(t, h, subject(), ers.Initial(docs("y", 1)...))[0]
	}
	_, err := r.Verify(group, ers.VerifyOptions{Whole: true})
	require.NoError(t, err)
	return r, group
}

// Any single change of the record outside the tokens is seen, byte after byte; inside a token
// whatever the signature covers is seen, and what it does not cover changes no statement.
func TestAnyChangeOfARecordIsSeen(t *testing.T) {
	r, group := aged(t)
	want, err := r.Verify(group, ers.VerifyOptions{Whole: true})
	require.NoError(t, err)
	for _, at := range outside(r) {
		for _, bit := range []byte{0x01, 0x20, 0x80} { // a number, constructed, class
			bad := bytes.Clone(r.Raw)
			bad[at] ^= bit
			if got, err := ers.Parse(bad); err == nil {
				_, err = got.Verify(group, ers.VerifyOptions{Whole: true})
				require.Error(t, err, "byte %d, bit %#x", at, bit)
			}
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		bad := bytes.Clone(r.Raw)
		bad[rapid.IntRange(0, len(bad)-1).Draw(rt, "byte")] ^= byte(rapid.IntRange(1, 255).Draw(rt, "xor"))
		got, err := ers.Parse(bad)
		if err != nil {
			return
		}
		if rep, err := got.Verify(group, ers.VerifyOptions{Whole: true}); err == nil {
			require.Equal(rt, want.Since, rep.Since)
			require.Len(rt, rep.Stamps, len(want.Stamps))
			for i := range rep.Stamps {
				require.Equal(rt, want.Stamps[i].Time, rep.Stamps[i].Time)
			}
		}
	})
}

// tlv is DER by hand, to take records apart and put them together wrongly.
func tlv(tag byte, parts ...[]byte) []byte {
	der, err := asn1.Marshal(asn1.RawValue{Class: int(tag >> 6), Tag: int(tag & 0x1f), IsCompound: tag&0x20 != 0, Bytes: bytes.Join(parts, nil)})
	if err != nil {
		panic(err)
	}
	return der
}

var (
	algs256 = tlv(0x30, []byte{6, 9, 0x60, 0x86, 0x48, 1, 101, 3, 4, 2, 1})
	algs512 = tlv(0x30, []byte{6, 9, 0x60, 0x86, 0x48, 1, 101, 3, 4, 2, 3})
	version = []byte{2, 1, 1}
)

func record(algs []byte, chains ...[]byte) []byte {
	return tlv(0x30, version, tlv(0x30, algs), tlv(0x30, chains...))
}

// Any change of order, and anything taken away but the last renewals, is seen.
func TestOrderOfTheEvidence(t *testing.T) {
	r, group := aged(t)
	both := bytes.Join([][]byte{algs256, algs512}, nil)
	s := func(c, i int) []byte { return r.Chains[c].Stamps[i].Raw }
	seq := func(stamps ...[]byte) []byte { return tlv(0x30, stamps...) }
	for name, c := range map[string]struct {
		raw  []byte
		want []ers.Fault
	}{
		"as it is":             {record(both, seq(s(0, 0), s(0, 1)), seq(s(1, 0), s(1, 1))), nil},
		"without the last":     {record(both, seq(s(0, 0), s(0, 1)), seq(s(1, 0))), nil},
		"first chain alone":    {record(algs256, seq(s(0, 0), s(0, 1))), nil},
		"without the first":    {record(both, seq(s(0, 1)), seq(s(1, 0), s(1, 1))), []ers.Fault{ers.FaultData, ers.FaultData}},
		"without the second":   {record(both, seq(s(0, 0)), seq(s(1, 0), s(1, 1))), []ers.Fault{ers.FaultData}},
		"second chain alone":   {record(algs512, seq(s(1, 0), s(1, 1))), []ers.Fault{ers.FaultData}},
		"chains exchanged":     {record(both, seq(s(1, 0), s(1, 1)), seq(s(0, 0), s(0, 1))), []ers.Fault{ers.FaultData, ers.FaultOrder, ers.FaultData}},
		"stamps exchanged":     {record(both, seq(s(0, 1), s(0, 0)), seq(s(1, 0), s(1, 1))), []ers.Fault{ers.FaultData, ers.FaultOrder, ers.FaultLink, ers.FaultData}},
		"one chain":            {record(both, seq(s(0, 0), s(0, 1), s(1, 0), s(1, 1))), []ers.Fault{ers.FaultAlgorithm, ers.FaultAlgorithm}},
		"a stamp twice":        {record(both, seq(s(0, 0), s(0, 0), s(0, 1)), seq(s(1, 0), s(1, 1))), []ers.Fault{ers.FaultLink, ers.FaultData}},
		"algorithm not listed": {record(algs256, seq(s(0, 0), s(0, 1)), seq(s(1, 0), s(1, 1))), []ers.Fault{ers.FaultAlgorithm}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ers.Parse(c.raw)
			require.NoError(t, err)
			rep, err := got.Verify(group, ers.VerifyOptions{})
			var faults []ers.Fault
			for _, f := range rep.Faults {
				faults = append(faults, f.Fault)
			}
			require.Equal(t, c.want, faults, err)
		})
	}
}

func TestRecordsThatAreNone(t *testing.T) {
	r, _ := aged(t)
	good := r.Chains[0].Stamps[0]
	token := good.TokenRaw
	chain := func(stamp ...[]byte) []byte { return record(algs256, tlv(0x30, tlv(0x30, stamp...))) }
	hash := tlv(4, make([]byte, 32))
	tree := func(lists ...[]byte) []byte { return tlv(0xA2, lists...) }
	sha1 := tlv(0x30, []byte{6, 5, 0x2b, 14, 3, 2, 26})
	for name, c := range map[string]struct {
		raw  []byte
		text string
	}{
		"empty":            {nil, ""},
		"not a sequence":   {tlv(0x31, version), "SEQUENCE is expected"},
		"trailing":         {append(bytes.Clone(r.Raw), 0), "after its end"},
		"cut":              {r.Raw[:len(r.Raw)-1], ""},
		"long length":      {[]byte{0x30, 0x81, 3, 2, 1, 1}, ""},
		"indefinite":       {[]byte{0x30, 0x80, 0, 0}, ""},
		"parts":            {tlv(0x30, version, tlv(0x30, algs256)), "are expected"},
		"version":          {tlv(0x30, []byte{2, 1, 2}, tlv(0x30, algs256), tlv(0x30)), "version 02"},
		"six parts":        {tlv(0x30, version, version, version, version, version, version), "more than 5"},
		"out of place":     {tlv(0x30, version, tlv(0x30, algs256), tlv(0xA1, algs256[2:], version), tlv(0xA0), tlv(0x30)), "out of place"},
		"no crypto info":   {tlv(0x30, version, tlv(0x30, algs256), tlv(0xA0), tlv(0x30)), "attributes are empty"},
		"crypto info":      {tlv(0x30, version, tlv(0x30, algs256), tlv(0xA0, algs256), tlv(0x30)), "set of values"},
		"encryption info":  {tlv(0x30, version, tlv(0x30, algs256), tlv(0xA1, version), tlv(0x30)), "an identifier and a value"},
		"attributes":       {chain(tlv(0xA1, algs256[2:]), token), "set of values"},
		"unknown part":     {tlv(0x30, version, tlv(0x30, algs256), tlv(0xA2), tlv(0x30)), "out of place"},
		"no algorithm":     {tlv(0x30, version, tlv(0x30), tlv(0x30, r.Chains[0].Raw)), "there is none"},
		"SHA-1":            {tlv(0x30, version, tlv(0x30, sha1), tlv(0x30, r.Chains[0].Raw)), "is not one of"},
		"parameters":       {tlv(0x30, version, tlv(0x30, tlv(0x30, algs256[2:], version)), tlv(0x30, r.Chains[0].Raw)), "has parameters"},
		"algorithm tag":    {tlv(0x30, version, tlv(0x30, version), tlv(0x30, r.Chains[0].Raw)), "identifier 0x02"},
		"algorithm body":   {tlv(0x30, version, tlv(0x30, tlv(0x30, version)), tlv(0x30, r.Chains[0].Raw)), "algorithm:"},
		"no chain":         {record(algs256), "it is empty"},
		"chain tag":        {record(algs256, version), "chain 1: a SEQUENCE"},
		"no stamp":         {record(algs256, tlv(0x30)), "chain 1: it is empty"},
		"stamp tag":        {record(algs256, tlv(0x30, version)), "stamp 1: a SEQUENCE"},
		"no token":         {chain(tree(tlv(0x30, hash))), "token is missing"},
		"no parts":         {chain(), "token is missing"},
		"bad token":        {chain(tlv(0x30, version)), "tsp:"},
		"part order":       {chain(tree(tlv(0x30, hash)), tlv(0xA0, algs256[2:]), token), "out of place"},
		"part tag":         {chain(tlv(0xA3), token), "out of place"},
		"stamp's SHA-1":    {chain(tlv(0xA0, sha1[2:]), token), "is not one of"},
		"empty tree":       {chain(tree(), token), "tree is empty"},
		"empty list":       {chain(tree(tlv(0x30)), token), "a list is empty"},
		"list tag":         {chain(tree(hash), token), "a SEQUENCE is expected"},
		"short hash":       {chain(tree(tlv(0x30, tlv(4, make([]byte, 31)))), token), "octet string of 32"},
		"hash of another":  {chain(tlv(0xA0, algs512[2:]), tree(tlv(0x30, hash)), token), "octet string of 64"},
		"many lists":       {chain(tree(bytes.Repeat(tlv(0x30, hash), 513)), token), "more than 512"},
		"many stamps":      {record(algs256, tlv(0x30, bytes.Repeat(good.Raw, 1025))), "more than 1024"},
		"many hashes":      {chain(tree(tlv(0x30, bytes.Repeat(hash, 1<<16+1))), token), "more than 65536"},
		"many chains":      {record(algs256, bytes.Repeat(tlv(0x30, good.Raw), 65)), "more than 64"},
		"broken list":      {chain(tree(tlv(0x30, []byte{4})), token), "a list of hashes"},
		"too long":         {make([]byte, 16<<20+1), "limit"},
		"response, no tok": {chain(tlv(0x30, tlv(0x30, []byte{2, 1, 0}), token)), "whole response"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ers.Parse(c.raw)
			var syntax *ers.SyntaxError
			require.ErrorAs(t, err, &syntax)
			require.ErrorContains(t, err, c.text)
		})
	}
	oid := algs256[2:]
	attribute := tlv(0x30, oid, tlv(0x31))
	with, err := ers.Parse(tlv(0x30, version, tlv(0x30, algs256), tlv(0xA0, attribute), tlv(0xA1, oid, version),
		tlv(0x30, tlv(0x30, tlv(0x30, tlv(0xA1, attribute), token)))))
	require.NoError(t, err)
	require.True(t, with.Encrypted)
	require.Equal(t, crypto.SHA256, with.Chains[0].Stamps[0].Hash)
}

func TestBuildRefuses(t *testing.T) {
	c := newClerk(t, 5)
	data := docs("a", 1)
	r := c.seal(t, crypto.SHA256, ers.Initial(data...))[0]
	require.Empty(t, r.Chains[0].Stamps[0].Tree, "one object alone needs no tree")
	tampered := bytes.Clone(r.Raw)
	tampered[len(tampered)-1] ^= 1 // the last byte of the signature
	spoilt, err := ers.Parse(tampered)
	require.NoError(t, err)
	broken := ers.Reader(func() (io.ReadCloser, error) { return nil, errors.New("disk gone") })
	halfway := ers.Reader(func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader("a"), iotest.ErrReader(errors.New("disk gone halfway")))), nil
	})
	short := ers.Object(func(crypto.Hash) ([]byte, error) { return []byte{1}, nil })
	for name, f := range map[string]struct {
		hash     crypto.Hash
		subjects []ers.Subject
		text     string
	}{
		"nothing":            {crypto.SHA256, nil, "nothing to stamp"},
		"SHA-224":            {crypto.SHA224, []ers.Subject{ers.Initial(data...)}, "SHA-256, SHA-384 or SHA-512"},
		"no object":          {crypto.SHA256, []ers.Subject{ers.Initial()}, "no data objects"},
		"rehash, no object":  {crypto.SHA512, []ers.Subject{ers.Rehash(r)}, "no data objects"},
		"rehash, other data": {crypto.SHA512, []ers.Subject{ers.Rehash(r, docs("b", 1)...)}, "does not verify"},
		"restamp, other alg": {crypto.SHA512, []ers.Subject{ers.Restamp(r)}, "Rehash"},
		"restamp, no stamp":  {crypto.SHA256, []ers.Subject{ers.Restamp(spoilt)}, "last time stamp does not hold"},
		"unreadable":         {crypto.SHA256, []ers.Subject{ers.Initial(broken)}, "disk gone"},
		"cut off":            {crypto.SHA256, []ers.Subject{ers.Initial(halfway)}, "gone halfway"},
		"short digest":       {crypto.SHA256, []ers.Subject{ers.Initial(short)}, "has 1 bytes"},
		"digest not known":   {crypto.SHA256, []ers.Subject{ers.Initial(ers.Digests(nil))}, "not at hand"},
	} {
		_, err := ers.NewBatch(f.hash, f.subjects)
		require.ErrorContains(t, err, f.text, name)
	}
	b, err := ers.NewBatch(crypto.SHA256, []ers.Subject{ers.Restamp(r)})
	require.NoError(t, err)
	_, err = b.Seal([]byte("x"))
	require.ErrorContains(t, err, "seal")
	_, err = b.Seal(c.stamp(t, crypto.SHA512, make([]byte, 64)))
	require.ErrorContains(t, err, "the batch has SHA-256")
	_, err = b.Seal(c.stamp(t, crypto.SHA256, make([]byte, 32)))
	require.ErrorContains(t, err, "stamps other bytes")
	c.now = c.now.AddDate(-1, 0, 0)
	c.certify(t, 5)
	s, err := b.Seal(c.stamp(t, crypto.SHA256, b.Root()))
	require.NoError(t, err)
	_, err = s.Record(0)
	require.ErrorContains(t, err, "before the one that it renews")
	for _, i := range []int{-1, 1} {
		_, err = s.Record(i)
		require.ErrorContains(t, err, "no subject")
	}
	_, err = r.Verify(nil, ers.VerifyOptions{})
	require.ErrorContains(t, err, "none was given")
	_, err = r.Verify([]ers.Object{broken}, ers.VerifyOptions{})
	require.ErrorContains(t, err, "disk gone")
}

func TestReaderObject(t *testing.T) {
	c := newClerk(t, 5)
	opened := 0
	o := ers.Reader(func() (io.ReadCloser, error) { opened++; return io.NopCloser(strings.NewReader("a 0")), nil })
	r := c.seal(t, crypto.SHA256, ers.Initial(docs("a", 1)...), ers.Initial(docs("b", 1)...))[0]
	_, err := r.Verify([]ers.Object{o}, ers.VerifyOptions{})
	require.NoError(t, err)
	require.Equal(t, 1, opened)
}

// openssl takes every token of a record for a stamp over the root that we computed.
func TestTokensByOpenSSL(t *testing.T) {
	r, _ := aged(t)
	for _, c := range r.Chains {
		for _, s := range c.Stamps {
			cert := s.Token.Certificate()
			require.NotNil(t, cert)
			root := s.Token.Signed.Certificates[slices.IndexFunc(s.Token.Signed.Certificates, func(c *x509.Certificate) bool { return c.IsCA })]
			cmstest.OpenSSL(t, "ts", "-verify", "-token_in", "-in", cmstest.File(t, "t", s.TokenRaw), "-digest", hex.EncodeToString(s.Token.Info.Digest),
				"-CAfile", cmstest.CertFile(t, root), "-attime", fmt.Sprint(s.Token.Info.Time.Unix()))
		}
	}
	whole := cmstest.OpenSSL(t, "asn1parse", "-inform", "DER", "-in", cmstest.File(t, "er", r.Raw))
	require.NotContains(t, whole, "error")
}

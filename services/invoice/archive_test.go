package invoice

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/invoice/internal/db"
)

// zipMember is one entry to be written by zipOf; change touches its header.
type zipMember struct {
	name    string
	content []byte
	change  func(*zip.FileHeader)
}

func zipOf(t testing.TB, members ...zipMember) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, m := range members {
		h := &zip.FileHeader{Name: m.name, Method: zip.Deflate}
		if m.change != nil {
			m.change(h)
		}
		f, err := w.CreateHeader(h)
		require.NoError(t, err)
		_, err = f.Write(m.content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

// rawMember is written with a header that may lie.
func rawMember(t testing.TB, w *zip.Writer, h *zip.FileHeader, content []byte) {
	t.Helper()
	f, err := w.CreateRaw(h)
	require.NoError(t, err)
	_, err = f.Write(content)
	require.NoError(t, err)
}

func openBytes(raw []byte) (*zip.Reader, error) {
	return openArchive(bytes.NewReader(raw), int64(len(raw)))
}

func TestMembersJudgedByTheList(t *testing.T) {
	const (
		waiting = invoicev1.BatchFileState_BATCH_FILE_STATE_WAITING
		refused = invoicev1.BatchFileState_BATCH_FILE_STATE_REFUSED
		ignored = invoicev1.BatchFileState_BATCH_FILE_STATE_IGNORED
	)
	huge := bytes.Repeat([]byte("a"), maxContent+1)
	members := []struct {
		zipMember
		state invoicev1.BatchFileState
		code  string
		says  string
	}{
		{zipMember{"a.xml", []byte("<a/>"), nil}, waiting, "", ""},
		{zipMember{"2026/b.XML.P7M", []byte("x"), nil}, waiting, "", ""},
		{zipMember{"plain", []byte("<a/>"), nil}, waiting, "", ""}, // its content decides
		{zipMember{"2026/", nil, nil}, ignored, "", "a folder"},
		{zipMember{"__MACOSX/2026/._b.xml", []byte("x"), nil}, ignored, "", "macOS"},
		{zipMember{"2026/._c.xml", []byte("x"), nil}, ignored, "", "macOS"},
		{zipMember{"2026/.DS_Store", []byte("x"), nil}, ignored, "", "file manager"},
		{zipMember{"thumbs.DB", []byte("x"), nil}, ignored, "", "file manager"},
		{zipMember{"film.mov", huge, nil}, ignored, "", "a file .mov"},
		{zipMember{"../../etc/passwd.xml", []byte("x"), nil}, refused, "ARCHIVE_ENTRY_NAME", "leads out"},
		{zipMember{"/etc/passwd.xml", []byte("x"), nil}, refused, "ARCHIVE_ENTRY_NAME", "leads out"},
		{zipMember{`..\evil.xml`, []byte("x"), nil}, refused, "ARCHIVE_ENTRY_NAME", "leads out"},
		{zipMember{`C:\evil.xml`, []byte("x"), nil}, refused, "ARCHIVE_ENTRY_NAME", "leads out"},
		{zipMember{"link.xml", []byte("/etc/passwd"), func(h *zip.FileHeader) { h.SetMode(0o777 | 1<<27) }}, refused, "ARCHIVE_ENTRY_LINK", "a link"},
		{zipMember{"inner.zip", []byte("PK\x03\x04"), nil}, refused, "ARCHIVE_NESTED", "an archive inside"},
		{zipMember{"inner.tar", []byte("x"), nil}, refused, "ARCHIVE_NESTED", "an archive inside"},
		{zipMember{"large.xml", huge, nil}, refused, "INVOICE_TOO_LARGE", "at most 5000000"},
		{zipMember{"a.xml", []byte("<other/>"), nil}, refused, "ARCHIVE_ENTRY_REPEATED", "first as file 0"},
		{zipMember{"bad\xff\x01name.xml", []byte("x"), nil}, waiting, "", ""},
	}
	var list []zipMember
	for _, m := range members {
		list = append(list, m.zipMember)
	}
	z, err := openBytes(zipOf(t, list...))
	require.NoError(t, err)
	got, err := listArchive(z)
	require.NoError(t, err)
	require.Len(t, got, len(members), "every entry has its outcome")
	for i, want := range members {
		require.Equal(t, want.state, got[i].state, "%s: %s", want.name, got[i].message)
		require.Equal(t, want.code, got[i].code, want.name)
		require.Contains(t, got[i].message, want.says, want.name)
	}
	require.Equal(t, "bad\ufffd\ufffdname.xml", got[len(got)-1].name, "what is stored is text")
}

func TestLyingMembers(t *testing.T) {
	content := []byte("<FatturaElettronica/>")
	sum := crc32.ChecksumIEEE(content)
	plain := func(name string) *zip.FileHeader {
		return &zip.FileHeader{Name: name, Method: zip.Store, CRC32: sum, CompressedSize64: uint64(len(content)), UncompressedSize64: uint64(len(content))}
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, h := range []struct {
		name   string
		change func(*zip.FileHeader)
	}{
		{"encrypted.xml", func(h *zip.FileHeader) { h.Flags |= 1 }},
		{"method.xml", func(h *zip.FileHeader) { h.Method = 99 }},
		{"sum.xml", func(h *zip.FileHeader) { h.CRC32++ }},
		{"garbage.xml", func(h *zip.FileHeader) { h.Method = zip.Deflate }},
		{"short.xml", func(h *zip.FileHeader) { h.UncompressedSize64 += 7 }},
		{"long.xml", func(h *zip.FileHeader) { h.UncompressedSize64 -= 7 }},
		{"good.xml", func(*zip.FileHeader) {}},
	} {
		header := plain(h.name)
		h.change(header)
		rawMember(t, w, header, content)
	}
	require.NoError(t, w.Close())
	z, err := openBytes(out.Bytes())
	require.NoError(t, err)
	list, err := listArchive(z)
	require.NoError(t, err)
	require.Equal(t, "ARCHIVE_ENTRY_ENCRYPTED", list[0].code)
	require.Equal(t, "ARCHIVE_ENTRY_METHOD", list[1].code)
	for i := 2; i < len(list)-1; i++ {
		_, refusal, err := readMember(z.File[i])
		require.NoError(t, err)
		require.NotNil(t, refusal, list[i].name)
		require.Contains(t, []string{"ARCHIVE_ENTRY_DAMAGED", "ARCHIVE_BOMB"}, refusal.Code, list[i].name)
	}
	got, refusal, err := readMember(z.File[len(list)-1])
	require.NoError(t, err)
	require.Nil(t, refusal)
	require.Equal(t, content, got)
}

// Two entries of the list that point at the same bytes: how a few kilobytes become terabytes.
func TestOverlappingMembers(t *testing.T) {
	raw := zipOf(t, zipMember{"a.xml", bytes.Repeat([]byte("<a/>"), 100), nil}, zipMember{"b.xml", bytes.Repeat([]byte("<b/>"), 100), nil})
	at := bytes.LastIndex(raw, []byte("PK\x01\x02")) // the list's entry of b.xml, made to begin where a.xml does
	binary.LittleEndian.PutUint32(raw[at+42:], 0)
	z, err := openBytes(raw)
	require.NoError(t, err)
	list, err := listArchive(z)
	require.NoError(t, err)
	require.Equal(t, "ARCHIVE_ENTRY_OVERLAP", list[0].code+list[1].code)
}

func TestUnusableArchives(t *testing.T) {
	good := zipOf(t, zipMember{"a.xml", []byte("<a/>"), nil})
	bomb := &bytes.Buffer{}
	w := zip.NewWriter(bomb)
	for i := range 20 {
		rawMember(t, w, &zip.FileHeader{Name: fmt.Sprintf("%d.xml", i), Method: zip.Deflate, CompressedSize64: 4, UncompressedSize64: maxContent}, []byte("\x03\x00\x00\x00"))
	}
	require.NoError(t, w.Close())
	listed := bytes.Clone(good)
	binary.LittleEndian.PutUint32(listed[len(listed)-22+12:], maxDirectory+1)
	for name, tt := range map[string]struct {
		raw  []byte
		code string
	}{
		"nothing":        {nil, "ARCHIVE_UNREADABLE"},
		"text":           {[]byte("this is no archive"), "ARCHIVE_UNREADABLE"},
		"cut":            {good[:len(good)-30], "ARCHIVE_UNREADABLE"},
		"empty":          {zipOf(t), "ARCHIVE_EMPTY"},
		"bomb":           {bomb.Bytes(), "ARCHIVE_BOMB"},
		"directory size": {listed, "ARCHIVE_TOO_MANY"},
	} {
		_, err := openBytes(tt.raw)
		require.Equal(t, tt.code, fault.Of(err).Code, "%s: %v", name, err)
		require.Equal(t, fault.KindInvalid, fault.Of(err).Kind, name)
	}
}

// An archive of more than 65535 members needs the wide records (zip64).
func TestManyMembers(t *testing.T) {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	const n = 1<<16 + 10
	for i := range n {
		_, err := w.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("%d.xml", i), Method: zip.Store})
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	z, err := openBytes(out.Bytes())
	require.NoError(t, err)
	list, err := listArchive(z)
	require.NoError(t, err)
	require.Len(t, list, n)
	require.Equal(t, fmt.Sprintf("%d.xml", n-1), list[n-1].name)
}

func TestPartsReader(t *testing.T) {
	store, err := blob.OpenFS(t.TempDir())
	require.NoError(t, err)
	whole := []byte(strings.Repeat("0123456789", 100))
	var parts []db.ListBatchPartsRow
	for at := 0; at < len(whole); {
		n := min(len(whole)-at, 7+at%31)
		ref, err := store.Put(t.Context(), "acme", whole[at:at+n])
		require.NoError(t, err)
		parts = append(parts, db.ListBatchPartsRow{Start: int64(at), Size: int64(n), Uri: ref.URI()})
		at += n
	}
	r, err := newPartsReader(t.Context(), store, parts)
	require.NoError(t, err)
	require.EqualValues(t, len(whole), r.size)
	for at := range whole {
		got := make([]byte, 53)
		n, err := r.ReadAt(got, int64(at))
		require.Equal(t, min(53, len(whole)-at), n)
		require.Equal(t, whole[at:at+n], got[:n])
		require.Equal(t, n < 53, errors.Is(err, io.EOF))
	}
	require.LessOrEqual(t, len(r.kept), keptParts)
	_, err = newPartsReader(t.Context(), store, parts[1:])
	require.Equal(t, "ARCHIVE_GAP", fault.Of(err).Code)

	missing := append([]db.ListBatchPartsRow{}, parts...)
	missing[0].Uri = blob.Of("acme", []byte("never stored")).URI()
	r, err = newPartsReader(context.WithoutCancel(t.Context()), store, missing)
	require.NoError(t, err)
	_, err = openArchive(r, r.size)
	require.Equal(t, "BLOB_NOT_FOUND", fault.Of(err).Code, "a fault of the store is not taken for one of the archive")
	_, err = r.ReadAt(make([]byte, 1), 0)
	require.Equal(t, "BLOB_NOT_FOUND", fault.Of(err).Code)
}

// Whatever the bytes are: no panic, every member of the list has an outcome, and no member gives more than
// an invoice may have.
func FuzzArchive(f *testing.F) {
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\x00", 18)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		z, err := openBytes(raw)
		if err != nil {
			if fault.Of(err).Kind != fault.KindInvalid {
				t.Fatalf("%v", err)
			}
			return
		}
		list, err := listArchive(z)
		if err != nil || len(list) != len(z.File) {
			t.Fatalf("%d members, %d outcomes, %v", len(z.File), len(list), err)
		}
		for i, m := range list {
			if m.name != shownName(m.name) || (m.state != invoicev1.BatchFileState_BATCH_FILE_STATE_WAITING && m.message == "") {
				t.Fatalf("%+v", m)
			}
			if m.state != invoicev1.BatchFileState_BATCH_FILE_STATE_WAITING {
				continue
			}
			content, refusal, err := readMember(z.File[i])
			if err != nil || len(content) > maxContent+1 || (refusal == nil && uint64(len(content)) != z.File[i].UncompressedSize64) {
				t.Fatalf("%d bytes, %v, %v", len(content), refusal, err)
			}
		}
	})
}

package custody_test

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/custody"
)

// packed is a ZIP of two files, one of which is compressed and described behind itself.
func packed(t *testing.T, change func(*zip.Writer)) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	f, err := w.Create("p/one.xml")
	require.NoError(t, err)
	_, err = f.Write(bytes.Repeat([]byte("one "), 50))
	require.NoError(t, err)
	raw := []byte("two")
	f, err = w.CreateRaw(&zip.FileHeader{Name: "p/two.xml", CRC32: crc32.ChecksumIEEE(raw), CompressedSize64: 3, UncompressedSize64: 3})
	require.NoError(t, err)
	_, err = f.Write(raw)
	require.NoError(t, err)
	if change != nil {
		change(w)
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

// twice has the directory name the second entry once more, under another name.
func twice(good []byte, directory int) []byte {
	end := bytes.LastIndex(good, []byte("PK\x05\x06"))
	last := bytes.LastIndex(good, []byte("PK\x01\x02"))
	again := bytes.Replace(good[last:end], []byte("two"), []byte("six"), 1)
	bad := append(append(bytes.Clone(good[:last]), again...), good[last:]...)
	end += len(again)
	binary.LittleEndian.PutUint16(bad[end+8:], 3)
	binary.LittleEndian.PutUint16(bad[end+10:], 3)
	binary.LittleEndian.PutUint32(bad[end+12:], uint32(end-directory))
	return bad
}

// TestMembersAsAStream: programs that read a ZIP from its beginning find the files that its directory names, under those names and with those
// bytes, and nothing else.
func TestMembersAsAStream(t *testing.T) {
	good := packed(t, nil)
	_, members, err := custody.Members(good)
	require.NoError(t, err)
	require.Len(t, members, 2)
	second := bytes.LastIndex(good, []byte("PK\x03\x04")) // where the second entry begins, which says its sizes at once
	directory := bytes.Index(good, []byte("PK\x01\x02"))
	at := func(i int, with ...byte) []byte {
		bad := bytes.Clone(good)
		copy(bad[i:], with)
		return bad
	}
	// moved puts bytes somewhere and mends the places that the directory and its end name.
	moved := func(i int, more []byte) []byte {
		bad := append(append(bytes.Clone(good[:i]), more...), good[i:]...)
		end := bytes.LastIndex(bad, []byte("PK\x05\x06"))
		if i <= directory {
			binary.LittleEndian.PutUint32(bad[end+16:], uint32(directory+len(more)))
		}
		for c := directory + len(more); bytes.HasPrefix(bad[c:], []byte("PK\x01\x02")); {
			if from := binary.LittleEndian.Uint32(bad[c+42:]); int(from) >= i {
				binary.LittleEndian.PutUint32(bad[c+42:], from+uint32(len(more)))
			}
			c += 46 + int(binary.LittleEndian.Uint16(bad[c+28:])) + int(binary.LittleEndian.Uint16(bad[c+30:])) + int(binary.LittleEndian.Uint16(bad[c+32:]))
		}
		return bad
	}
	hidden := packed(t, nil)[:second] // an entry that the directory does not name
	stored := &zip.FileHeader{Name: "p/three.xml", Method: zip.Store}
	for name, c := range map[string]struct {
		raw  []byte
		says string
	}{
		"another name":          {at(second+30, []byte("P/TWO.XML")...), "where it begins"},
		"another method":        {at(second+8, 8), "in another way"},
		"another flag":          {at(second+6, 1), "in another way"},
		"another digest":        {at(second+14, 1, 2, 3, 4), "its digest or sizes"},
		"another packed size":   {at(second+18, 2), "its digest or sizes"},
		"another size":          {at(second+22, 9), "its digest or sizes"},
		"another digest, later": {at(second-12, 1, 2, 3, 4), "behind it"},
		"another size, later":   {at(second-4, 1), "behind it"},
		"bytes before":          {moved(0, []byte("MZ")), "belong to no entry"},
		"an entry before":       {moved(0, hidden), "belong to no entry"},
		"bytes between":         {moved(second, []byte("x")), "behind it"},
		"an entry between":      {moved(second, hidden), "belong to no entry"},
		"an entry after":        {moved(directory, hidden), "belong to no entry"},
		"bytes before the end":  {moved(bytes.LastIndex(good, []byte("PK\x05\x06")), []byte("x")), "belong to no entry"},
		"bytes after what is packed": {packed(t, func(w *zip.Writer) {
			var deflated bytes.Buffer
			z, err := flate.NewWriter(&deflated, flate.BestSpeed)
			require.NoError(t, err)
			_, err = z.Write([]byte("three"))
			require.NoError(t, err)
			require.NoError(t, z.Close())
			deflated.Write(hidden)
			f, err := w.CreateRaw(&zip.FileHeader{
				Name: "p/three.xml", Method: zip.Deflate, CRC32: crc32.ChecksumIEEE([]byte("three")),
				CompressedSize64: uint64(deflated.Len()), UncompressedSize64: 5,
			})
			require.NoError(t, err)
			_, err = io.Copy(f, &deflated)
			require.NoError(t, err)
		}), "belong to no entry"},
		"a second name": {packed(t, func(w *zip.Writer) {
			h := *stored
			h.Extra = append([]byte{0x75, 0x70, 6, 0, 1, 0, 0, 0, 0}, 'x')
			_, err := w.CreateHeader(&h)
			require.NoError(t, err)
		}), "a second name"},
		"one entry under two names": {twice(good, directory), "more entries than there are"},
		"an end in the comment":     {packed(t, func(w *zip.Writer) { require.NoError(t, w.SetComment("PK\x05\x06")) }), "belong to no entry"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := zip.NewReader(bytes.NewReader(c.raw), int64(len(c.raw)))
			require.NoError(t, err, "who begins with the directory finds nothing odd")
			_, _, err = custody.Members(c.raw)
			require.ErrorContains(t, err, c.says)
		})
	}
	for name, raw := range map[string][]byte{
		"a comment": packed(t, func(w *zip.Writer) { require.NoError(t, w.SetComment("a comment")) }),
		"stored, described later": packed(t, func(w *zip.Writer) {
			h := *stored
			_, err := w.CreateHeader(&h)
			require.NoError(t, err)
		}),
		"a folder": packed(t, func(w *zip.Writer) {
			_, err := w.Create("p/empty/")
			require.NoError(t, err)
		}),
	} {
		_, _, err := custody.Members(raw)
		require.NoError(t, err, name)
	}
}

// TestMembersOfOthers: a package that somebody unpacked and packed again, with a program that writes as a stream or not, is read.
func TestMembersOfOthers(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "p", "data"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "p", "data", "one.xml"), bytes.Repeat([]byte("one "), 5000), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "p", "empty.xml"), nil, 0o600))
	for name, script := range map[string]string{
		"whole":     `import sys,zipfile;z=zipfile.ZipFile(sys.argv[1],"w",zipfile.ZIP_DEFLATED);[z.write("p/"+n) for n in ("","data","data/one.xml","empty.xml")];z.close()`,
		"as stream": `import sys,zipfile;o=open(sys.argv[1],"wb");z=zipfile.ZipFile(type("W",(),{"write":lambda s,b:o.write(b),"flush":lambda s:None})(),"w",zipfile.ZIP_DEFLATED);[z.write("p/"+n) for n in ("data/one.xml","empty.xml")];z.close();o.close()`,
		"large":     `import sys,zipfile;z=zipfile.ZipFile(sys.argv[1],"w");f=z.open("p/one.xml","w",force_zip64=True);f.write(b"one");f.close();z.close()`,
	} {
		file := filepath.Join(dir, "p.zip")
		cmd := exec.Command("python3", "-c", script, file)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "it asks for python3 (apt-get install python3): %s", out)
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		_, members, err := custody.Members(raw)
		require.NoError(t, err, name)
		require.NotEmpty(t, members)
	}
}

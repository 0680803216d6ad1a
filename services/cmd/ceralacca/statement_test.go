package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadStatement(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"semicolons":      {"identificativo_sdi;nome_file;stato\n111;IT01234567897_00001.xml;RC\n", "111 IT01234567897_00001.xml RC"},
		"our own file":    {"identificativo_sdi;nome_file;sha256;inviato;manca;entro\n111;IT01234567897_00001.xml;ab;;RECEIPT;\n", "111 IT01234567897_00001.xml "},
		"commas and BOM":  {"\xef\xbb\xbfNome file,Stato,IdSdI\nIT01234567897_00001.xml,Mancata consegna,7\n", "7 IT01234567897_00001.xml MC"},
		"tabs":            {"id_sdi\tesito\n5\tscartata\n", "5  NS"},
		"a short line":    {"nome_file;stato\nIT01234567897_00001.xml\n", " IT01234567897_00001.xml "},
		"quoted":          {"nome_file;stato\n\"IT01234567897_00001.xml\";\"\"\n", " IT01234567897_00001.xml "},
		"Windows' breaks": {"nome_file;stato\r\nIT01234567897_00001.xml;RC\r\n", " IT01234567897_00001.xml RC"},
	} {
		t.Run(name, func(t *testing.T) {
			lines, err := readStatement(strings.NewReader(c.text))
			require.NoError(t, err)
			require.Len(t, lines, 1)
			require.Equal(t, c.want, lines[0].GetSdiId()+" "+lines[0].GetFileName()+" "+lines[0].GetState())
		})
	}
	for name, c := range map[string]struct{ text, want string }{
		"nothing":          {"", "the list is empty"},
		"a header alone":   {"nome_file\n", "no line"},
		"no header":        {"111;IT01234567897_00001.xml\n", "give the list a header"},
		"an unknown word":  {"nome_file;stato\nx;persa\n", `line 2: stato "PERSA" is not known`},
		"a spoilt number":  {"id_sdi;stato\n1,23457E+10;RC\n", "line 2: identificativo_sdi"},
		"an empty line":    {"id_sdi;stato\n;RC\n", "line 2: neither"},
		"too many lines":   {"id_sdi\n" + strings.Repeat("1\n", mostStatementLines+1), "split it"},
		"an endless quote": {"id_sdi\n\"1\n", "line 2"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readStatement(strings.NewReader(c.text))
			require.ErrorContains(t, err, c.want)
		})
	}
}

func FuzzReadStatement(f *testing.F) {
	f.Add("identificativo_sdi;nome_file;stato\n111;IT01234567897_00001.xml;RC\n")
	f.Add("Nome file,Stato\n\"a\",b\n")
	f.Fuzz(func(t *testing.T, text string) {
		lines, err := readStatement(strings.NewReader(text))
		if (err == nil) != (len(lines) > 0) {
			t.Fatalf("%d lines, %v", len(lines), err)
		}
	})
}

package pec

import (
	"bytes"
	"strings"
)

// Danger says why an attachment should not be opened without thought, "" when nothing is known
// against it. It goes by the name as sent, also behind a second extension, and by the first bytes.
// It is no virus scanner: providers have one, and a valid signature of theirs says nothing about
// the content.
func Danger(name string, head []byte) string {
	shown := strings.ToLower(strings.TrimRight(DecodeText(name), " ."))
	if strings.ContainsAny(name, "\u202e\u202d\u2066\u2067\u2068") {
		return "the name turns the direction of text to hide its extension"
	}
	ext := shown[strings.LastIndexByte(shown, '.')+1:]
	switch {
	case extension(executables, ext):
		return "a program or a script (." + ext + ")"
	case extension(macros, ext):
		return "a document with macros (." + ext + ")"
	case extension(images, ext):
		return "a disk image or an installer (." + ext + ")"
	case bytes.HasPrefix(head, []byte("MZ")), bytes.HasPrefix(head, []byte("\x7fELF")), bytes.HasPrefix(head, []byte("#!")):
		return "a program under another name"
	case bytes.Contains(head, []byte("$EICAR-STANDARD-"+"ANTIVIRUS-TEST-FILE!$")):
		return "the test file of virus scanners"
	case encryptedZip(head):
		return "an archive with a password, which no scanner looks into"
	}
	return ""
}

const (
	executables = " exe com scr pif bat cmd ps1 vbs vbe js jse wsf wsh hta msi msp cpl dll jar lnk reg sh app gadget scf url chm "
	macros      = " docm dotm xlsm xltm xlam xlsb pptm potm ppam ppsm sldm "
	images      = " iso img vhd vhdx dmg one "
)

func extension(list, ext string) bool { return ext != "" && strings.Contains(list, " "+ext+" ") }

// encryptedZip looks at the flags of the first entry.
func encryptedZip(head []byte) bool {
	return len(head) > 7 && bytes.HasPrefix(head, []byte("PK\x03\x04")) && head[6]&1 == 1
}

// Automatic says whether a message was made by a program, so that answering it, or forwarding it
// by a rule, could begin a loop: receipts and notices, delivery notifications, Auto-Submitted,
// lists and bulk mail. spec: RFC3834 §2, §5
func (r *Reading) Automatic() bool {
	h := r.Root.Header
	if t := r.Claim.Tipo; t != TipoOrdinaria && t != BustaTrasporto {
		return true
	}
	roots := []*Part{r.Root}
	if r.Original != nil {
		roots = append(roots, r.Original.Parts...)
	}
	for _, p := range roots {
		if v, has := p.Header.Lookup("Auto-Submitted"); has && !strings.EqualFold(v, "no") {
			return true
		}
		switch strings.ToLower(p.Header.Get("Precedence")) {
		case "bulk", "junk", "list":
			return true
		}
		if _, list := p.Header.Lookup("List-Id"); list {
			return true
		}
	}
	return strings.Trim(h.Get("Return-Path"), " ") == "<>"
}

package sincro

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// The editions of the standard that other preservers write.
const (
	Edition2010 = "UNI 11386:2010"
	Edition2020 = "UNI 11386:2020"
)

// Foreign is an index that somebody else wrote, IdC (2010) or PIndex (2020), read with tolerance: what is needed to find and
// compare the files is taken, whatever else stands there is left.
type Foreign struct {
	Edition   string
	ID        string
	Volume    string
	Program   string
	Producer  string
	Holder    string // name of whose the documents are, where it is told
	HolderID  string // for example VATIT-01234567897
	Time      time.Time
	Groups    []ForeignGroup
	Deviation []string // what breaks the schema, in words
}

// ForeignGroup is a unit of a foreign index.
type ForeignGroup struct {
	ID, Label string
	Files     []ForeignFile
	Metadata  *ForeignFile // a file of metadata beside the documents
}

// ForeignFile is one file of it. Path may be empty: the edition of 2010 leaves it to choice.
type ForeignFile struct {
	ID, Path, Format string
	Function, Value  string // of the digest, as they stand there
}

// errNoIndex: the root is neither of the two.
var errNoIndex = errors.New("sincro: it is neither an IdC nor a PIndex")

type foreignAgent struct {
	Role   string   `xml:"holderRole,attr"`
	IDs    []string `xml:"AgentID"`
	OldIDs []string `xml:"Agent_ID"`
	Formal string   `xml:"AgentName>FormalName"`
	First  string   `xml:"AgentName>NameAndSurname>FirstName"`
	Last   string   `xml:"AgentName>NameAndSurname>LastName"`
}

func (a foreignAgent) name() string {
	if n := strings.TrimSpace(a.Formal); n != "" {
		return n
	}
	return strings.TrimSpace(a.First + " " + a.Last)
}

func (a foreignAgent) id() string {
	for _, id := range slices.Concat(a.IDs, a.OldIDs) {
		if id = strings.TrimSpace(id); id != "" {
			return id
		}
	}
	return ""
}

type foreignHash struct {
	Attrs []xml.Attr `xml:",any,attr"`
	Value string     `xml:",chardata"`
}

func (h foreignHash) function() string {
	for _, a := range h.Attrs {
		if a.Name.Local == "hashFunction" || a.Name.Local == "function" {
			return a.Value
		}
	}
	return ""
}

type foreignFile struct {
	Attrs []xml.Attr  `xml:",any,attr"`
	ID    string      `xml:"ID"`
	Path  string      `xml:"Path"`
	Hash  foreignHash `xml:"Hash"`
}

func (f foreignFile) file() ForeignFile {
	out := ForeignFile{ID: strings.TrimSpace(f.ID), Path: strings.TrimSpace(f.Path), Function: strings.TrimSpace(f.Hash.function()), Value: strings.TrimSpace(f.Hash.Value)}
	for _, a := range f.Attrs {
		if a.Name.Local == "format" {
			out.Format = a.Value
		}
	}
	return out
}

type foreignIndex struct {
	XMLName xml.Name
	Self    struct {
		ID          string `xml:"ID"`
		Application struct {
			Name     string `xml:"Name"`
			Version  string `xml:"Version"`
			Producer string `xml:"Producer"`
		} `xml:"CreatingApplication"`
	} `xml:"SelfDescription"`
	VdC     struct{ ID string } `xml:"VdC"`
	PVolume struct{ ID string } `xml:"PVolume"`
	Groups  []struct {
		ID       string        `xml:"ID"`
		Label    string        `xml:"Label"`
		Files    []foreignFile `xml:"File"`
		MoreInfo struct {
			External *foreignFile `xml:"ExternalMetadata"`
		} `xml:"MoreInfo"`
	} `xml:"FileGroup"`
	Process struct {
		Submitter foreignAgent   `xml:"Submitter"`
		Holders   []foreignAgent `xml:"Holder"`
		Agents    []foreignAgent `xml:"Agent"`
		Time      struct {
			Info string `xml:"TimeInfo"`
		} `xml:"TimeReference"`
	} `xml:"Process"`
	Other []struct {
		XMLName xml.Name
	} `xml:",any"`
}

// IsIndex looks at the root alone.
func IsIndex(raw []byte) bool {
	d := xml.NewDecoder(bytes.NewReader(raw))
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil } // the root's name is ASCII in all of them
	for {
		t, err := d.Token()
		if err != nil {
			return false
		}
		if start, ok := t.(xml.StartElement); ok {
			return start.Name.Local == "IdC" || start.Name.Local == "PIndex"
		}
	}
}

// ReadForeign reads an index of either edition. Errors: no XML, no index, an index without files.
func ReadForeign(raw []byte) (*Foreign, error) {
	if !IsIndex(raw) {
		return nil, errNoIndex
	}
	var x foreignIndex
	err := xml.Unmarshal(raw, &x)
	if err != nil {
		return nil, fmt.Errorf("sincro: %w", err)
	}
	f := &Foreign{Edition: Edition2020, ID: strings.TrimSpace(x.Self.ID), Volume: strings.TrimSpace(x.PVolume.ID), Producer: strings.TrimSpace(x.Self.Application.Producer)}
	f.Program = strings.TrimSpace(x.Self.Application.Name + " " + x.Self.Application.Version)
	if x.XMLName.Local == "IdC" {
		f.Edition, f.Volume = Edition2010, strings.TrimSpace(x.VdC.ID)
	}
	for _, o := range x.Other {
		f.Deviation = append(f.Deviation, fmt.Sprintf("%s is no element of the standard at that place", o.XMLName.Local))
	}
	f.holder(&x)
	if at, err := parseTime(strings.TrimSpace(x.Process.Time.Info)); err == nil {
		f.Time = at
	}
	files := 0
	for _, g := range x.Groups {
		group := ForeignGroup{ID: strings.TrimSpace(g.ID), Label: strings.TrimSpace(g.Label)}
		for _, file := range g.Files {
			group.Files = append(group.Files, file.file())
			files++
		}
		if m := g.MoreInfo.External; m != nil {
			got := m.file()
			group.Metadata = &got
		}
		f.Groups = append(f.Groups, group)
	}
	if files == 0 {
		return nil, errors.New("sincro: the index names no file")
	}
	return f, nil
}

func (f *Foreign) holder(x *foreignIndex) {
	for _, a := range slices.Concat(x.Process.Holders, []foreignAgent{x.Process.Submitter}, x.Process.Agents) {
		if f.Holder = a.name(); f.Holder != "" {
			f.HolderID = a.id()
			return
		}
	}
}

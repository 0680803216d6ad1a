package sincro

import "strings"

// The structs of this file only read: encoding/xml fills them, the model is what callers see.

type xmlID struct {
	Scheme string `xml:"http://www.uni.com/U3011/sincro-v2/ scheme,attr"`
	Value  string `xml:",chardata"`
}

func (x xmlID) id() ID { return ID(x) }

type xmlHash struct {
	Canonical string `xml:"http://www.uni.com/U3011/sincro-v2/ canonicalXML,attr"`
	Function  string `xml:"http://www.uni.com/U3011/sincro-v2/ hashFunction,attr"`
	Related   string `xml:"http://www.uni.com/U3011/sincro-v2/ relatedPIndex,attr"`
	Value     string `xml:",chardata"`
}

func (x xmlHash) hash() Hash {
	return Hash{Function: x.Function, Canonical: isTrue(x.Canonical), Value: x.Value}
}

// isTrue reads xs:boolean.
func isTrue(s string) bool {
	s = strings.TrimSpace(s)
	return s == "true" || s == "1"
}

type xmlSelf struct {
	ID          xmlID       `xml:"http://www.uni.com/U3011/sincro-v2/ ID"`
	Application Application `xml:"http://www.uni.com/U3011/sincro-v2/ CreatingApplication"`
	Sources     []struct {
		Derivation string  `xml:"http://www.uni.com/U3011/sincro-v2/ derivation,attr"`
		ID         xmlID   `xml:"http://www.uni.com/U3011/sincro-v2/ ID"`
		Path       string  `xml:"http://www.uni.com/U3011/sincro-v2/ Path"`
		Hash       xmlHash `xml:"http://www.uni.com/U3011/sincro-v2/ Hash"`
	} `xml:"http://www.uni.com/U3011/sincro-v2/ PIndexSource"`
}

func (x *xmlSelf) into(ix *Index) {
	ix.ID, ix.Application = x.ID.id(), x.Application
	for _, s := range x.Sources {
		ix.Sources = append(ix.Sources, Source{
			Derivation: Derivation(s.Derivation), ID: s.ID.id(), Path: s.Path, Hash: s.Hash.hash(),
		})
	}
}

type xmlVolume struct {
	ID          xmlID  `xml:"http://www.uni.com/U3011/sincro-v2/ ID"`
	Label       string `xml:"http://www.uni.com/U3011/sincro-v2/ Label"`
	Description string `xml:"http://www.uni.com/U3011/sincro-v2/ Description"`
	Sources     []struct {
		ID     xmlID `xml:"http://www.uni.com/U3011/sincro-v2/ ID"`
		PIndex xmlID `xml:"http://www.uni.com/U3011/sincro-v2/ PIndexID"`
	} `xml:"http://www.uni.com/U3011/sincro-v2/ PVolumeSource"`
	Group *struct {
		ID          xmlID  `xml:"http://www.uni.com/U3011/sincro-v2/ ID"`
		Label       string `xml:"http://www.uni.com/U3011/sincro-v2/ Label"`
		Description string `xml:"http://www.uni.com/U3011/sincro-v2/ Description"`
	} `xml:"http://www.uni.com/U3011/sincro-v2/ PVolumeGroup"`
}

func (x *xmlVolume) volume() Volume {
	v := Volume{ID: x.ID.id(), Label: x.Label, Description: x.Description}
	for _, s := range x.Sources {
		v.Sources = append(v.Sources, VolumeSource{ID: s.ID.id(), PIndex: s.PIndex.id()})
	}
	if x.Group != nil {
		v.Group = &Group{ID: x.Group.ID.id(), Label: x.Group.Label, Description: x.Group.Description}
	}
	return v
}

type xmlRelation struct {
	Type   string   `xml:"http://www.uni.com/U3011/sincro-v2/ Type"`
	Values []string `xml:"http://www.uni.com/U3011/sincro-v2/ Value"`
}

func relations(list []xmlRelation) []Relation {
	var out []Relation
	for _, r := range list {
		out = append(out, Relation(r))
	}
	return out
}

type xmlMoreInfo struct {
	Schema   string    `xml:"http://www.uni.com/U3011/sincro-v2/ xmlSchema,attr"`
	Embedded *struct{} `xml:"http://www.uni.com/U3011/sincro-v2/ EmbeddedMetadata"`
	External *struct {
		Encoding  string  `xml:"http://www.uni.com/U3011/sincro-v2/ encoding,attr"`
		Extension string  `xml:"http://www.uni.com/U3011/sincro-v2/ extension,attr"`
		Format    string  `xml:"http://www.uni.com/U3011/sincro-v2/ format,attr"`
		ID        xmlID   `xml:"http://www.uni.com/U3011/sincro-v2/ ID"`
		Path      string  `xml:"http://www.uni.com/U3011/sincro-v2/ Path"`
		Hash      xmlHash `xml:"http://www.uni.com/U3011/sincro-v2/ Hash"`
	} `xml:"http://www.uni.com/U3011/sincro-v2/ ExternalMetadata"`
}

func (x *xmlMoreInfo) metadata() *Metadata {
	if x == nil {
		return nil
	}
	m := &Metadata{Schema: x.Schema, Embedded: x.Embedded != nil}
	if e := x.External; e != nil {
		m.Encoding, m.Extension, m.Format = Encoding(e.Encoding), e.Extension, e.Format
		m.ID, m.Path, m.Hash = e.ID.id(), e.Path, e.Hash.hash()
	}
	return m
}

type xmlGroup struct {
	ID          xmlID         `xml:"http://www.uni.com/U3011/sincro-v2/ ID"`
	Label       string        `xml:"http://www.uni.com/U3011/sincro-v2/ Label"`
	Description string        `xml:"http://www.uni.com/U3011/sincro-v2/ Description"`
	Files       []xmlFile     `xml:"http://www.uni.com/U3011/sincro-v2/ File"`
	Relations   []xmlRelation `xml:"http://www.uni.com/U3011/sincro-v2/ Relation"`
	MoreInfo    *xmlMoreInfo  `xml:"http://www.uni.com/U3011/sincro-v2/ MoreInfo"`
}

func (x *xmlGroup) group() FileGroup {
	g := FileGroup{
		ID: x.ID.id(), Label: x.Label, Description: x.Description,
		Relations: relations(x.Relations), Metadata: x.MoreInfo.metadata(),
	}
	for i := range x.Files {
		g.Files = append(g.Files, x.Files[i].file())
	}
	return g
}

type xmlFile struct {
	Encoding  string        `xml:"http://www.uni.com/U3011/sincro-v2/ encoding,attr"`
	Extension string        `xml:"http://www.uni.com/U3011/sincro-v2/ extension,attr"`
	Format    string        `xml:"http://www.uni.com/U3011/sincro-v2/ format,attr"`
	ID        xmlID         `xml:"http://www.uni.com/U3011/sincro-v2/ ID"`
	Path      string        `xml:"http://www.uni.com/U3011/sincro-v2/ Path"`
	Hash      xmlHash       `xml:"http://www.uni.com/U3011/sincro-v2/ Hash"`
	Previous  *xmlHash      `xml:"http://www.uni.com/U3011/sincro-v2/ PreviousHash"`
	Relations []xmlRelation `xml:"http://www.uni.com/U3011/sincro-v2/ Relation"`
	MoreInfo  *xmlMoreInfo  `xml:"http://www.uni.com/U3011/sincro-v2/ MoreInfo"`
}

func (x *xmlFile) file() File {
	f := File{
		Encoding: Encoding(x.Encoding), Extension: x.Extension, Format: x.Format,
		ID: x.ID.id(), Path: x.Path, Hash: x.Hash.hash(),
		Relations: relations(x.Relations), Metadata: x.MoreInfo.metadata(),
	}
	if x.Previous != nil {
		f.Previous = &PreviousHash{Hash: x.Previous.hash(), Related: x.Previous.Related}
	}
	return f
}

type xmlAgent struct {
	Type string `xml:"http://www.uni.com/U3011/sincro-v2/ agentType,attr"`
	IDs  []struct {
		Expansion string `xml:"http://www.uni.com/U3011/sincro-v2/ expan,attr"`
		Authority string `xml:"http://www.uni.com/U3011/sincro-v2/ nameRegistrationAuthority,attr"`
		Value     string `xml:",chardata"`
	} `xml:"http://www.uni.com/U3011/sincro-v2/ AgentID"`
	Name struct {
		FormalName string `xml:"http://www.uni.com/U3011/sincro-v2/ FormalName"`
		Person     struct {
			FirstName string `xml:"http://www.uni.com/U3011/sincro-v2/ FirstName"`
			LastName  string `xml:"http://www.uni.com/U3011/sincro-v2/ LastName"`
		} `xml:"http://www.uni.com/U3011/sincro-v2/ NameAndSurname"`
	} `xml:"http://www.uni.com/U3011/sincro-v2/ AgentName"`
	Documents []struct {
		Hash     string `xml:"http://www.uni.com/U3011/sincro-v2/ docHash,attr"`
		Function string `xml:"http://www.uni.com/U3011/sincro-v2/ hashFunction,attr"`
		URI      string `xml:"http://www.uni.com/U3011/sincro-v2/ uriDoc,attr"`
		Text     string `xml:",chardata"`
	} `xml:"http://www.uni.com/U3011/sincro-v2/ RelevantDocument"`
}

func (x *xmlAgent) agent() Agent {
	a := Agent{
		Type: AgentType(x.Type), FormalName: x.Name.FormalName,
		FirstName: x.Name.Person.FirstName, LastName: x.Name.Person.LastName,
	}
	for _, id := range x.IDs {
		a.IDs = append(a.IDs, AgentID{Value: id.Value, Expansion: id.Expansion, Authority: id.Authority})
	}
	for _, d := range x.Documents {
		a.Documents = append(a.Documents, RelevantDocument{Text: d.Text, Hash: d.Hash, HashFunction: d.Function, URI: d.URI})
	}
	return a
}

type xmlProcess struct {
	Submitter xmlAgent `xml:"http://www.uni.com/U3011/sincro-v2/ Submitter"`
	Holders   []struct {
		xmlAgent
		Role string `xml:"http://www.uni.com/U3011/sincro-v2/ holderRole,attr"`
	} `xml:"http://www.uni.com/U3011/sincro-v2/ Holder"`
	Signers []struct {
		xmlAgent
		Role string `xml:"http://www.uni.com/U3011/sincro-v2/ signerRole,attr"`
	} `xml:"http://www.uni.com/U3011/sincro-v2/ AuthorizedSigner"`
	Time struct {
		Info *struct {
			Attached string `xml:"http://www.uni.com/U3011/sincro-v2/ attachedTimeStamp,attr"`
			Value    string `xml:",chardata"`
		} `xml:"http://www.uni.com/U3011/sincro-v2/ TimeInfo"`
		Stamp *struct {
			Encoding string `xml:"http://www.uni.com/U3011/sincro-v2/ encoding,attr"`
			Format   string `xml:"http://www.uni.com/U3011/sincro-v2/ format,attr"`
			Normal   string `xml:"http://www.uni.com/U3011/sincro-v2/ normal,attr"`
			URI      string `xml:",chardata"`
		} `xml:"http://www.uni.com/U3011/sincro-v2/ TimeStamp"`
	} `xml:"http://www.uni.com/U3011/sincro-v2/ TimeReference"`
	Laws string `xml:"http://www.uni.com/U3011/sincro-v2/ LawsAndRegulations"`
}

func (x *xmlProcess) process() (Process, error) {
	p := Process{Submitter: x.Submitter.agent(), Laws: x.Laws}
	for _, h := range x.Holders {
		p.Holders = append(p.Holders, Holder{Agent: h.agent(), Role: HolderRole(h.Role)})
	}
	for _, s := range x.Signers {
		p.Signers = append(p.Signers, Signer{Agent: s.agent(), Role: s.Role})
	}
	var err error
	switch {
	case x.Time.Info != nil:
		p.AttachedTimeStamp = isTrue(x.Time.Info.Attached)
		p.Time, err = parseTime(x.Time.Info.Value)
	case x.Time.Stamp != nil:
		s := x.Time.Stamp
		p.TimeStampURI, p.TimeStampEncoding, p.TimeStampFormat = s.URI, Encoding(s.Encoding), s.Format
		p.Time, err = parseTime(s.Normal)
	}
	return p, err
}

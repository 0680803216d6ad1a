package conservation

import (
	"encoding/json"
	"fmt"

	"ceralacca.dev/services/format/sincro"
)

// What the packages say of the program that writes them. The version is that of the layout: it
// changes when the bytes of a package would.
const (
	applicationName = "Ceralacca conservation"
	layoutVersion   = 4
	layoutSilent    = 3 // without what issuers of certificates said (revocation/)
	layoutPlaces    = 2 // units.jsonl tells where files lay when the package was sealed, package.json no term
	layoutBare      = 1 // without package.json and units.jsonl
)

// laws that the packages name.
const laws = "Linee Guida AgID sulla formazione, gestione e conservazione dei documenti informatici; DMEF 17 giugno 2014; UNI 11386:2020"

// terms are fixed when a package is closed, so that its bytes do not change when the configuration,
// or this program, does so before it is sealed.
type terms struct {
	Layout      int                `json:"layout"`
	Application sincro.Application `json:"application"`
	Responsible ResponsibleConfig  `json:"responsible"`
	Contract    string             `json:"contract"`
	Laws        string             `json:"laws"`
}

func (s *Service) terms() ([]byte, error) {
	raw, err := json.Marshal(terms{
		Layout:      layoutVersion,
		Application: sincro.Application{Name: applicationName, Version: fmt.Sprint(layoutVersion), Producer: s.cfg.Producer},
		Responsible: s.cfg.Responsible,
		Contract:    s.cfg.Contract,
		Laws:        laws,
	})
	if err != nil {
		return nil, fmt.Errorf("conservation: terms: %w", err)
	}
	return raw, nil
}

func decodeTerms(raw []byte) (terms, error) {
	var t terms
	err := json.Unmarshal(raw, &t)
	if err != nil {
		return t, fmt.Errorf("conservation: terms: %w", err)
	}
	if t.Layout < layoutBare || t.Layout > layoutVersion {
		return t, fmt.Errorf("conservation: package of layout %d; this program writes layouts %d to %d", t.Layout, layoutBare, layoutVersion)
	}
	return t, nil
}

// signer is the authorised signer of the index.
func (t terms) signer() sincro.Signer {
	r := t.Responsible
	a := sincro.Agent{
		Type: sincro.LegalPerson, FormalName: r.FormalName, FirstName: r.FirstName, LastName: r.LastName,
		Documents: []sincro.RelevantDocument{{Text: r.Deed}},
	}
	if r.FormalName == "" {
		a.Type = sincro.NaturalPerson
	}
	if r.ID != "" {
		a.IDs = []sincro.AgentID{{Value: r.ID}}
	}
	return sincro.Signer{Agent: a, Role: r.Role}
}

// holder is a taxpayer whose documents the package holds.
func (t terms) holder(p party) sincro.Agent {
	a := sincro.Agent{
		Type: sincro.LegalPerson, FormalName: plain(p.Name),
		Documents: []sincro.RelevantDocument{{Text: t.Contract}},
	}
	if personalCode.MatchString(p.TaxCode) {
		a.Type = sincro.NaturalPerson
	}
	for _, id := range p.agentIDs() {
		a.IDs = append(a.IDs, sincro.AgentID{Value: id})
	}
	if a.FormalName == "" {
		a.FormalName = p.anyCode()
	}
	return a
}

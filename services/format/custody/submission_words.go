package custody

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// submissionSpace is the namespace of a report.
const submissionSpace = "https://ceralacca.dev/schemi/rdv/1"

// submissionWords are the elements that hold others, what they hold, and whether more than once. All others hold text.
var submissionWords = map[string]map[string]bool{
	"RapportoDiVersamento": {
		"Identificativo": false, "DataRapporto": false, "Conservatore": false, "Responsabile": false, "Titolare": false, "PacchettoDiVersamento": false,
		"UnitaDocumentaria": true, "Registro": false, "Esito": false,
	},
	"PacchettoDiVersamento": {
		"Chiave": false, "Tipo": false, "ImprontaCrittograficaDelDocumento": false, "Dimensione": false, "Formato": false, "UnitaDocumentarie": false,
	},
	"UnitaDocumentaria": {
		"Identificativo": false, "PresaInCarico": false, "Classe": false, "PeriodoImposta": false, "File": true, "Copie": false, "Sequenza": false,
	},
	"File":                              {"Ruolo": false, "ImprontaCrittograficaDelDocumento": false, "Dimensione": false},
	"ImprontaCrittograficaDelDocumento": {"Impronta": false, "Algoritmo": false},
	"Registro":                          {"Origine": false, "Sequenza": false, "Prova": false, "Foglia": true},
}

// opened is an element whose end was not read yet.
type opened struct {
	name string
	had  map[string]bool
}

// plainSubmission says why a report may be read as another one than is judged here: of an element that comes twice programs take the first
// or the last, and a name that is not of the schema means whatever somebody likes.
func plainSubmission(raw []byte) error {
	d := xml.NewDecoder(bytes.NewReader(raw))
	var open []opened
	for {
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch t := token.(type) {
		case xml.ProcInst:
			if t.Target != "xml" || len(open) > 0 { // the declaration may be there
				return fmt.Errorf("there is an instruction %q for programs in it", t.Target)
			}
		case xml.Comment:
			return errors.New("there is a comment in it")
		case xml.Directive:
			return errors.New("there is a declaration of types in it")
		case xml.CharData:
			if len(open) > 0 && submissionWords[open[len(open)-1].name] != nil && strings.TrimSpace(string(t)) != "" {
				return fmt.Errorf("there is text between the elements of %s", open[len(open)-1].name)
			}
		case xml.StartElement:
			err = plainElement(t, open)
			if err != nil {
				return err
			}
			open = append(open, opened{t.Name.Local, map[string]bool{}})
		case xml.EndElement:
			open = open[:len(open)-1]
		}
	}
}

// plainElement judges an element by those that it stands in.
func plainElement(e xml.StartElement, in []opened) error {
	if e.Name.Space != "" {
		return fmt.Errorf("%s:%s is no name of a report", e.Name.Space, e.Name.Local)
	}
	if len(in) == 0 {
		if len(e.Attr) != 2 || attribute(e, "xmlns") != submissionSpace || attribute(e, "versione") != "1" {
			return fmt.Errorf("%s has other attributes than its namespace and version 1", e.Name.Local)
		}
		return nil
	}
	of := in[len(in)-1]
	many, known := submissionWords[of.name][e.Name.Local]
	switch {
	case !known:
		return fmt.Errorf("%.100q is no name of a report in %s", e.Name.Local, of.name)
	case len(e.Attr) > 0:
		return fmt.Errorf("%s has attributes", e.Name.Local)
	case of.had[e.Name.Local] && !many:
		return fmt.Errorf("%s says %s twice", of.name, e.Name.Local)
	}
	of.had[e.Name.Local] = true
	return nil
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Space == "" && a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/format/xades"
)

// notice is what describe says of one message of SdI.
type notice struct {
	File      string   `json:"file"`
	Type      string   `json:"type"`
	Schema    string   `json:"schema"`
	Light     string   `json:"light,omitempty"` // black, green, yellow or red; absent of messages that decide nothing
	Meaning   string   `json:"meaning"`
	Semaforo  string   `json:"semaforo,omitempty"`
	Italiano  string   `json:"significato"`
	Fields    []named  `json:"fields"`
	Errors    []string `json:"errors,omitempty"`
	Signature []string `json:"signature"`
	Warnings  []string `json:"warnings,omitempty"`
}

type named struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func (c *cli) sdiDescribe() *cobra.Command {
	cmd := verb("describe FILE", "Say offline what a message of SdI means, in English and Italian, with the traffic light", args("FILE"), func(_ context.Context, given []string) error {
		raw, err := c.readUpTo(given[0], largestFile)
		if err != nil {
			return err
		}
		m, err := sdi.ParseMessage(filepath.Base(given[0]), raw)
		if err != nil {
			return usage("%s is no message of SdI: %s", given[0], plain(err))
		}
		n := describeNotice(filepath.Base(given[0]), m)
		if c.format == formatJSON {
			printJSON(c.out, n)
			return nil
		}
		c.showNotice(n)
		return nil
	})
	cmd.Long = cmd.Short + `.

Every message of both schemas is read: RC, NS, MC, NE, DT, AT (also in its zip), MT, EC and SE, the namespace without
"gov" too. Reading is lenient, since official examples break their own schema: each tolerance that was needed is listed
under warnings. The signature is checked as far as the file allows; trust in its signer is not judged.`
	return cmd
}

func describeNotice(name string, m *sdi.Message) *notice {
	meaning, decides := sdi.Significato(m)
	n := &notice{File: name, Type: string(m.Type()), Schema: m.Schema.String(), Meaning: meaning.English, Italiano: meaning.Italiano, Warnings: m.Warnings}
	if decides {
		n.Semaforo, n.Light = meaning.Luce.Parola()
	}
	add := func(pairs ...string) {
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i+1] != "" {
				n.Fields = append(n.Fields, named{pairs[i], pairs[i+1]})
			}
		}
	}
	h := m.Head()
	add("SdI id", h.IdentificativoSdI, "about", h.NomeFile, "received by SdI", romeTime(h.DataOraRicezione), "SHA-256", h.Hash)
	if h.RiferimentoArchivio != nil {
		add("in archive", h.RiferimentoArchivio.NomeFile+" ("+h.RiferimentoArchivio.IdentificativoSdI+")")
	}
	describeContent(n, m, add)
	add("message id", h.MessageID, "note", h.Note)
	n.Signature = describeSeal(m)
	return n
}

func describeContent(n *notice, m *sdi.Message, add func(...string)) {
	switch t := m.Contenuto.(type) {
	case *sdi.RicevutaConsegna:
		add("delivered", romeTime(t.DataOraConsegna), "recipient", recipient(t.Destinatario))
	case *sdi.NotificaScarto:
		for _, e := range t.ListaErrori {
			n.Errors = append(n.Errors, strings.TrimRight(e.Codice+" "+e.Descrizione+" "+e.Suggerimento, " "))
		}
	case *sdi.NotificaMancataConsegna:
		add("available from", romeTime(t.DataMessaADisposizione), "description", t.Descrizione)
	case *sdi.NotificaEsito:
		describeOutcome(&t.EsitoCommittente, add)
	case *sdi.NotificaDecorrenzaTermini:
		add("invoice", reference(t.RiferimentoFattura), "description", t.Descrizione)
	case *sdi.AttestazioneTrasmissioneFattura:
		add("recipient", recipient(t.Destinatario), "SHA-256 of the file", t.HashFileOriginale)
		if m.Original != nil {
			add("with the file", m.Original.Name)
		}
	case *sdi.MetadatiInvioFile:
		add("recipient code", t.CodiceDestinatario, "format", t.Formato, "deliveries tried", fmt.Sprint(t.TentativiInvio))
	case *sdi.NotificaEsitoCommittente:
		describeOutcome(t, add)
	case *sdi.ScartoEsitoCommittente:
		add("invoice", reference(t.RiferimentoFattura), "reason", string(t.Scarto), "outcome's message id", t.MessageIDCommittente)
	}
}

func describeOutcome(e *sdi.NotificaEsitoCommittente, add func(...string)) {
	add("outcome", string(e.Esito), "invoice", reference(e.RiferimentoFattura), "description", e.Descrizione, "outcome's message id", e.MessageIDCommittente)
}

func romeTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return sdi.FormatDataOra(t)
}

func recipient(d sdi.Destinatario) string { return strings.TrimSpace(d.Codice + " " + d.Descrizione) }

func reference(r *sdi.RiferimentoFattura) string {
	if r == nil {
		return ""
	}
	out := r.NumeroFattura + " of " + r.AnnoFattura
	if r.PosizioneFattura > 0 {
		out += fmt.Sprintf(", number %d in the file", r.PosizioneFattura)
	}
	return out
}

// describeSeal judges the signature of a message as far as the file allows.
func describeSeal(m *sdi.Message) []string {
	report, err := xades.Verify(m.XML, xades.VerifyOptions{})
	if err != nil {
		return []string{"cannot be read: " + plain(err)}
	}
	if len(report.Signatures) == 0 {
		return []string{"none"}
	}
	var out []string
	for i := range report.Signatures {
		s := &report.Signatures[i]
		verdict := "holds"
		if err := s.Err(); err != nil {
			verdict = "DOES NOT HOLD: " + strings.TrimPrefix(err.Error(), "xades: ")
		}
		signer := "an unknown signer"
		if s.Certificate != nil {
			signer = s.Certificate.Subject.String()
		}
		out = append(out, fmt.Sprintf("%s; %s; by %s", verdict, s.Algorithm, signer))
	}
	return out
}

func (c *cli) showNotice(n *notice) {
	c.fields("file", n.File, "message", n.Type+" ("+n.Schema+")")
	if n.Light != "" {
		c.fields("light", n.Light, "semaforo", n.Semaforo)
	}
	c.fields("meaning", n.Meaning, "significato", n.Italiano)
	fmt.Fprintln(c.out)
	for _, f := range n.Fields {
		c.fields(f.Name, f.Value)
	}
	for _, list := range []struct {
		title string
		lines []string
	}{{"errors", n.Errors}, {"signature", n.Signature}, {"warnings", n.Warnings}} {
		if len(list.lines) == 0 {
			continue
		}
		fmt.Fprintf(c.out, "\n%s\n", list.title)
		for _, line := range list.lines {
			fmt.Fprintln(c.out, "  "+line)
		}
	}
}

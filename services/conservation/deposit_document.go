package conservation

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
)

// deposited is what a producer said of what it handed over. Its JSON is in the facts of the unit.
type deposited struct {
	ID       string         `json:"id"`
	Key      string         `json:"key"`
	Other    int32          `json:"other,omitempty"` // attempt that a person took in beside the one that holds the key
	Kind     string         `json:"kind"`
	Format   string         `json:"format"`
	Signed   bool           `json:"signed,omitempty"`
	Years    int32          `json:"years"`
	Document document       `json:"document"`
	Origin   *foreignOrigin `json:"origin,omitempty"`
}

// foreignOrigin is where a package comes from that another preserver made.
type foreignOrigin struct {
	Standard string `json:"standard"` // UNI 11386:2010 or UNI 11386:2020
	Index    string `json:"index"`    // its id
	Volume   string `json:"volume"`
	Program  string `json:"program"`
	Producer string `json:"producer"`
}

func (d *deposited) unitKey() string {
	key := "UP|" + d.Key
	if d.Other > 0 {
		key += "|" + strconv.Itoa(int(d.Other))
	}
	return key
}

// document is the metadata of Allegato 5 as the producer gave them.
type document struct {
	Type         string              `json:"type"`
	Title        string              `json:"title"`
	Number       string              `json:"number"`
	Date         string              `json:"date"`
	Formation    int32               `json:"formation"`
	Flow         string              `json:"flow"` // E, U, I
	Register     string              `json:"register,omitempty"`
	Agents       []agent             `json:"agents,omitempty"`
	Keywords     []string            `json:"keywords,omitempty"`
	ClassIndex   string              `json:"class_index,omitempty"`
	ClassText    string              `json:"class_text,omitempty"`
	ClassPlan    string              `json:"class_plan,omitempty"`
	Reserved     bool                `json:"reserved,omitempty"`
	Version      string              `json:"version,omitempty"`
	Aggregations []documentAggregate `json:"aggregations,omitempty"`
	Note         string              `json:"note,omitempty"`
	Primary      string              `json:"primary,omitempty"` // key of the document that this one is attached to
	PrimarySum   string              `json:"primary_sum,omitempty"`
}

type documentAggregate struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
}

type agent struct {
	Role  string `json:"role"` // element of Allegato 5
	First string `json:"first,omitempty"`
	Last  string `json:"last,omitempty"`
	party
}

// Roles of agents, as the elements of Allegato 5 are called.
var agentRoles = map[conservationv1.AgentRole]string{
	conservationv1.AgentRole_AGENT_ROLE_AUTHOR: "Autore", conservationv1.AgentRole_AGENT_ROLE_SENDER: "Mittente",
	conservationv1.AgentRole_AGENT_ROLE_RECIPIENT: "Destinatario", conservationv1.AgentRole_AGENT_ROLE_REGISTRAR: roleRegistrar,
	conservationv1.AgentRole_AGENT_ROLE_OTHER: "Altro",
}

const roleRegistrar = "SoggettoCheEffettuaLaRegistrazione"

var aggregationKinds = map[conservationv1.AggregationKind]string{
	conservationv1.AggregationKind_AGGREGATION_KIND_FILE: "Fascicolo", conservationv1.AggregationKind_AGGREGATION_KIND_SERIES: "Serie Documentale",
	conservationv1.AggregationKind_AGGREGATION_KIND_SERIES_OF_FILES: "Serie Di Fascicoli",
}

// formations are the sentences of ModalitaDiFormazione, to the letter. spec: AgID-All5-2021 §DocumentoInformatico.2
var formations = map[int32]string{
	1: formedHere, 2: formedAcquired,
	3: "memorizzazione su supporto informatico in formato digitale delle informazioni risultanti da transazioni o processi informatici o dalla presentazione telematica di dati attraverso moduli o formulari resi disponibili ad utente",
	4: "generazione o raggruppamento anche in via automatica di un insieme di dati o registrazioni, provenienti da una o più banche dati, anche appartenenti a più soggetti interoperanti, secondo una struttura logica predeterminata e memorizzata in forma statica",
}

// readDocument reads the metadata and says everything that Allegato 5 lacks in them.
func readDocument(m *conservationv1.Document) (document, []string) {
	d := document{
		Type: strings.TrimSpace(m.GetType()), Title: strings.TrimSpace(m.GetTitle()), Number: cmp.Or(strings.TrimSpace(m.GetNumber()), "senza numero"), Date: m.GetDate(),
		Formation: int32(cmp.Or(m.GetFormation(), conservationv1.Formation_FORMATION_ACQUIRED)),
		Flow:      map[conservationv1.Flow]string{1: "E", 2: "U", 3: "I"}[m.GetFlow()],
		Register:  m.GetRegister(), Keywords: m.GetKeywords(), Reserved: m.GetReserved(), Version: m.GetVersion(), Note: m.GetNote(), Primary: m.GetPrimaryKey(),
		ClassIndex: m.GetClassification().GetIndex(), ClassText: m.GetClassification().GetDescription(), ClassPlan: m.GetClassification().GetPlan(),
	}
	var wrong []string
	want := func(ok bool, format string, a ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, a...))
		}
	}
	want(d.Type != "", "type: is missing")
	want(d.Title != "", "title: is missing")
	_, err := time.Parse(time.DateOnly, d.Date)
	want(err == nil, "date: %q is no date such as 2026-03-31", d.Date)
	want(d.Flow != "", "flow: is missing: FLOW_IN, FLOW_OUT or FLOW_INTERNAL")
	for i, a := range m.GetAgents() {
		x := agent{Role: agentRoles[a.GetRole()], First: strings.TrimSpace(a.GetFirstName()), Last: strings.TrimSpace(a.GetLastName()),
			party: party{strings.TrimSpace(a.GetName()), a.GetVatNumber(), a.GetTaxCode()}}
		want((x.First == "") == (x.Last == ""), "agents[%d]: a person has first_name and last_name", i)
		if x.Name == "" {
			x.Name = strings.TrimSpace(x.First + " " + x.Last)
		}
		want(x.Name != "", "agents[%d]: has no name", i)
		d.Agents = append(d.Agents, x)
	}
	has := func(roles ...string) bool {
		return slices.ContainsFunc(d.Agents, func(a agent) bool { return slices.Contains(roles, a.Role) })
	}
	// spec: AgID-All5-2021 §DocumentoInformatico.5
	want(has("Autore", "Mittente"), "agents: an author or a sender is needed")
	want(d.Flow != "U" || has("Destinatario"), "agents: a document that goes out has a recipient")
	want(d.Register == "" || has(roleRegistrar), "agents: a document in a register has who entered it (REGISTRAR)")
	for _, a := range m.GetAggregations() {
		d.Aggregations = append(d.Aggregations, documentAggregate{aggregationKinds[a.GetKind()], a.GetId()})
	}
	for _, text := range []string{d.Type, d.Number, d.Version} {
		want(!strings.ContainsFunc(text, unicode.IsControl), "%q: has control characters", text)
	}
	return d, wrong
}

// first is the first agent of one of the roles, in their order.
func (d document) first(roles ...string) party {
	for _, role := range roles {
		for _, a := range d.Agents {
			if a.Role == role {
				return a.party
			}
		}
	}
	return party{}
}

// factsOfDeposit is what search, index and metadata are made from.
func factsOfDeposit(name string, d *deposited, bodies []body) facts {
	f := facts{
		FileName: name, State: stateDeposited, Signed: d.Signed, Deposit: d, Bodies: bodies,
		Seller: d.Document.first("Autore", "Mittente", roleRegistrar, "Altro"), Buyer: d.Document.first("Destinatario"), Received: d.Document.Flow == "E",
	}
	if f.Received && f.Buyer.Name != "" { // what came in is the recipient's
		holder := f.Buyer
		f.Holder = &holder
	}
	return f
}

// stateDeposited is the state of what a producer handed over itself.
const stateDeposited = "DEPOSITED"

// depositMetadata is metadataOf for what a producer handed over. spec: AgID-All5-2021 §DocumentoInformatico
func depositMetadata(f facts, file db.UnitFile) []byte {
	d, dep, doc := &xmlText{}, f.Deposit, f.Deposit.Document
	d.raw(`<?xml version="1.0" encoding="UTF-8"?>` + "\n<DocumentoInformatico>")
	d.document("IdDoc", file.Sha256, "deposit:"+dep.Key)
	d.element("ModalitaDiFormazione", formations[doc.Formation])
	d.element("TipologiaDocumentale", doc.Type)
	d.depositRegistration(doc)
	ids := d.agents(doc)
	d.raw("<ChiaveDescrittiva>")
	d.element("Oggetto", doc.Title)
	for _, word := range doc.Keywords {
		d.element("ParoleChiave", word)
	}
	d.raw("</ChiaveDescrittiva><Allegati>")
	d.element("NumeroAllegati", "0")
	d.raw("</Allegati>")
	d.depositClass(doc)
	d.element("Riservato", strconv.FormatBool(doc.Reserved))
	d.raw("<IdentificativoDelFormato>")
	d.element("Formato", dep.Format)
	d.raw("</IdentificativoDelFormato><Verifica>")
	d.element("FirmatoDigitalmente", strconv.FormatBool(dep.Signed))
	d.element("SigillatoElettronicamente", "false")
	d.element("MarcaturaTemporale", "false")
	d.element("ConformitaCopieImmagineSuSupportoInformatico", "false")
	d.raw("</Verifica><Agg>")
	for _, a := range doc.Aggregations {
		d.raw("<TipoAgg>")
		d.element("TipoAggregazione", a.Kind)
		d.element("IdAggregazione", a.ID)
		d.raw("</TipoAgg>")
	}
	d.raw("</Agg>")
	if doc.PrimarySum != "" {
		d.raw("<IdIdentificativoDocumentoPrimario>")
		d.impronta(doc.PrimarySum)
		d.element("Identificativo", "deposit:"+doc.Primary)
		d.raw("</IdIdentificativoDocumentoPrimario>")
	}
	d.element("NomeDelDocumento", f.FileName)
	d.element("VersioneDelDocumento", cmp.Or(doc.Version, "1"))
	d.element("TempoDiConservazione", strconv.Itoa(int(dep.Years)))
	d.depositNote(dep, ids)
	d.raw("</DocumentoInformatico>\n")
	return d.Bytes()
}

func (d *xmlText) depositRegistration(doc document) {
	d.raw("<DatiDiRegistrazione>")
	d.element("TipologiaDiFlusso", doc.Flow)
	d.raw("<TipoRegistro>")
	if doc.Register == "" {
		d.raw("<Nessuno>")
		d.element("TipoRegistro", "Nessuno")
		d.element("DataDocumento", doc.Date)
		d.element("NumeroDocumento", doc.Number)
		d.raw("</Nessuno>")
	} else {
		d.raw("<Repertorio_Registro>")
		d.element("TipoRegistro", `Repertorio\Registro`)
		d.element("DataRegistrazioneDocumento", doc.Date)
		d.element("NumeroRegistrazioneDocumento", doc.Number)
		d.element("CodiceRegistro", doc.Register)
		d.raw("</Repertorio_Registro>")
	}
	d.raw("</TipoRegistro></DatiDiRegistrazione>")
}

// agents: a person has names of his own; everything else is an organisation. The identifiers that have no place there are given.
func (d *xmlText) agents(doc document) (ids []string) {
	d.raw("<Soggetti>")
	for _, a := range doc.Agents {
		text := a.Role
		if a.Role == roleRegistrar {
			text = "Soggetto Che Effettua La Registrazione"
		}
		d.raw("<Ruolo><" + a.Role + ">")
		d.element("TipoRuolo", text)
		var who *person
		if a.First != "" {
			who = &person{a.First, a.Last}
		}
		for _, id := range d.somebody(a.party, who) {
			if !slices.Contains(ids, id) && !slices.Contains(doc.Keywords, id) {
				ids = append(ids, id)
			}
		}
		d.raw("</" + a.Role + "></Ruolo>")
	}
	d.raw("<Ruolo><Produttore>")
	d.element("TipoRuolo", "Produttore")
	d.raw("<SW>")
	d.element("DenominazioneSistema", applicationName)
	d.raw("</SW></Produttore></Ruolo></Soggetti>")
	return ids
}

func (d *xmlText) depositClass(doc document) {
	if doc.ClassIndex == "" && doc.ClassText == "" {
		return
	}
	d.raw("<Classificazione>")
	d.element("IndiceDiClassificazione", doc.ClassIndex)
	d.element("Descrizione", doc.ClassText)
	if doc.ClassPlan != "" {
		d.element("PianoDiClassificazione", doc.ClassPlan)
	}
	d.raw("</Classificazione>")
}

func (d *xmlText) depositNote(dep *deposited, ids []string) {
	var notes []string
	if len(ids) > 0 {
		notes = append(notes, unwrittenNote(ids))
	}
	if dep.Document.Note != "" {
		notes = append(notes, dep.Document.Note)
	}
	if o := dep.Origin; o != nil {
		notes = append(notes, fmt.Sprintf("Pacchetto di archiviazione di altro sistema, conservato come ricevuto: %s, indice %s, volume %s, formato da %s (%s).", o.Standard, o.Index, o.Volume, o.Program, o.Producer))
	}
	if dep.Other > 0 {
		notes = append(notes, fmt.Sprintf("Altro contenuto versato con la stessa chiave (%d), distinto per decisione di un operatore.", dep.Other))
	}
	if dep.Signed {
		notes = append(notes, "Il documento reca una firma elettronica; il suo livello non è attestato da questi metadati.")
	}
	if d.replaced {
		notes = append(notes, "Nei metadati i caratteri non ammessi da XML 1.0 sono sostituiti da U+FFFD; il documento è intatto.")
	}
	if len(notes) > 0 {
		d.element("Note", strings.Join(notes, " "))
	}
}

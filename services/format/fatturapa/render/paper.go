package render

// paper is what a view is written on: a page of HTML or the sheets of a PDF. The
// view says what a piece is, the paper how it looks.
type paper interface {
	// begin writes what stands above all documents.
	begin(f frame)
	// end writes what stands below them.
	end(f frame)
	// courtesy writes that this is a courtesy copy.
	courtesy()
	// document starts the n-th document, counted from 0, which shut(markDocument) ends.
	document(n int, title string)
	// open and shut enclose a piece.
	open(m mark)
	shut(m mark)
	// text writes text of the file or words of this package; what the paper needs
	// escaped, it escapes.
	text(s string)
	// number is text that this package made of digits and their separators.
	number(b []byte)
	// date is a date of the file, as XML writes it and as people read it.
	date(xml, shown string)
	// next starts a new line within a piece.
	next()
	// table starts a table, which shut(markTable) ends.
	table(caption string, columns []column)
	// cell starts a cell of a row, which shut(markCell) ends.
	cell(c cell)
	// attachment offers a file to be saved.
	attachment(a attachment)
}

// frame is what stands around the documents.
type frame struct {
	title     string   // of the whole: what, who
	heading   string   // the first line to be read
	seller    string   // in plain text
	documents []string // their titles
	notes     []string // what the reader must know of this file
	foot      string   // and of every such document
	date      string   // of the first document, as XML writes it
}

// column is the head of a column of a table.
type column struct {
	label  string
	number bool
	long   bool // the texts of the table
}

// cell says how a cell of a table stands.
type cell struct {
	head   bool // of its row
	number bool
	long   bool
	span   int // columns, 0 is one
}

// attachment is a file inside the invoice that can be saved.
type attachment struct {
	file, mime  string // made harmless
	size        string // for people
	bytes       int
	content     string // letters of Base64 and white space
	renamed     bool
	description string
}

// mark names a piece.
type mark uint8

const (
	markDocument mark = iota
	markTable
	markRow
	markFoot // the last row of a table
	markCell
	markParties
	markParty
	markSection
	markPayment
	markTransmission
	markTitle   // of what is beside the documents
	markHeading // of a section
	markFields  // a list of names and values
	markInner   // such a list inside a value
	markField
	markGroup // a field whose value is a list
	markTotal // the field that everybody looks for
	markTerm
	markValue
	markItem // name and value in a line
	markName
	markCode
	markNote
	markStrong
	markMore // details below a text
	markParagraph
	markFiles
	markFile
	marks // how many there are
)

// Package xades signs and checks XML with enveloped XAdES-BES and XAdES-T signatures: FatturaPA as SdI
// takes it, and the receipts in the shape in which SdI signs them.
//
// It owns a guarded XML tree (no DTD, bounded size, depth and number of nodes), Canonical XML
// 1.0, 1.1 and exclusive over it, the splicing of a Signature before the root's closing tag
// with every other byte untouched, and a report on each signature found.
// It refuses detached and enveloping signatures, references outside the document, XSLT, XPath
// beyond the two expressions that real files use (three in indexes of other archives), and trust policy,
// which is the caller's.
//
// The canonical form is written here rather than taken from goxmldsig because that one works on
// elements, not documents (processing instructions before the root are lost), changes what it is
// given, copies the tree at each level, and leaves attribute white space as encoding/xml does.
// The tests hold this one against it, and against libxml2.
package xades

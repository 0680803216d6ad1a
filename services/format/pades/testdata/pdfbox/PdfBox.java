// Signs, changes and checks PDF files with PDFBox 2 and BouncyCastle, for the tests: what they
// make and judge owes nothing to this repository. Commands are separated by "--".
import java.io.*;
import java.nio.file.*;
import java.security.*;
import java.security.cert.*;
import java.util.*;
import org.apache.pdfbox.cos.*;
import org.apache.pdfbox.pdmodel.*;
import org.apache.pdfbox.pdmodel.common.PDRectangle;
import org.apache.pdfbox.pdmodel.interactive.annotation.*;
import org.apache.pdfbox.pdmodel.interactive.digitalsignature.*;
import org.apache.pdfbox.pdmodel.interactive.form.*;
import org.bouncycastle.asn1.*;
import org.bouncycastle.asn1.cms.*;
import org.bouncycastle.asn1.ess.*;
import org.bouncycastle.asn1.pkcs.PKCSObjectIdentifiers;
import org.bouncycastle.cert.*;
import org.bouncycastle.cert.jcajce.*;
import org.bouncycastle.cms.*;
import org.bouncycastle.cms.jcajce.*;
import org.bouncycastle.operator.jcajce.*;
import org.bouncycastle.tsp.*;

public class PdfBox {
    public static void main(String[] args) throws Exception {
        List<String> cmd = new ArrayList<>();
        for (String a : args) {
            if (a.equals("--")) { run(cmd); cmd.clear(); } else { cmd.add(a); }
        }
        run(cmd);
    }

    static void run(List<String> c) throws Exception {
        switch (c.get(0)) {
            case "sign": sign(c.get(1), c.get(2), c.get(3), c.get(4)); break;
            case "fill": fill(c.get(1), c.get(2)); break;
            case "note": note(c.get(1), c.get(2)); break;
            case "write": write(c.get(1), c.get(2)); break;
            case "verify": verify(c.get(1)); break;
            default: throw new IllegalArgumentException(c.get(0));
        }
    }

    // touch marks what leads to a change: PDFBox writes only what it reaches over marked objects.
    static void touch(COSBase... path) {
        for (COSBase b : path) {
            if (b instanceof COSObject) { b = ((COSObject) b).getObject(); }
            if (b instanceof COSUpdateInfo) { ((COSUpdateInfo) b).setNeedToBeUpdated(true); }
        }
    }

    static void touchPage(PDDocument doc, PDPage page) {
        COSDictionary pages = doc.getDocumentCatalog().getPages().getCOSObject();
        touch(doc.getDocumentCatalog().getCOSObject(), pages, pages.getItem(COSName.KIDS), page.getCOSObject(),
            page.getCOSObject().getItem(COSName.ANNOTS));
    }

    static void save(PDDocument doc, String out) throws IOException {
        try (OutputStream o = new FileOutputStream(out)) { doc.saveIncremental(o); }
    }

    static void sign(String in, String out, String p12, String sub) throws Exception {
        KeyStore ks = KeyStore.getInstance("PKCS12");
        ks.load(new FileInputStream(p12), "x".toCharArray());
        String alias = ks.aliases().nextElement();
        PrivateKey key = (PrivateKey) ks.getKey(alias, "x".toCharArray());
        X509Certificate cert = (X509Certificate) ks.getCertificate(alias);
        boolean etsi = sub.equals("etsi");
        try (PDDocument doc = PDDocument.load(new File(in))) {
            PDSignature s = new PDSignature();
            s.setFilter(PDSignature.FILTER_ADOBE_PPKLITE);
            s.setSubFilter(etsi ? PDSignature.SUBFILTER_ETSI_CADES_DETACHED : PDSignature.SUBFILTER_ADBE_PKCS7_DETACHED);
            s.setName("PDFBox");
            s.setReason("prova");
            Calendar at = new GregorianCalendar(TimeZone.getTimeZone("UTC"));
            at.setTimeInMillis(1772447415000L);
            s.setSignDate(at);
            doc.addSignature(s, content -> {
                try { return cms(content.readAllBytes(), key, cert, etsi); }
                catch (Exception e) { throw new IOException(e); }
            });
            save(doc, out);
        }
    }

    static byte[] cms(byte[] content, PrivateKey key, X509Certificate cert, boolean etsi) throws Exception {
        CMSSignedDataGenerator gen = new CMSSignedDataGenerator();
        JcaSignerInfoGeneratorBuilder b = new JcaSignerInfoGeneratorBuilder(new JcaDigestCalculatorProviderBuilder().build());
        if (etsi) {
            byte[] hash = MessageDigest.getInstance("SHA-256").digest(cert.getEncoded());
            ASN1EncodableVector v = new ASN1EncodableVector();
            v.add(new Attribute(PKCSObjectIdentifiers.id_aa_signingCertificateV2,
                new DERSet(new SigningCertificateV2(new ESSCertIDv2[] {new ESSCertIDv2(hash)}))));
            CMSAttributeTableGenerator base = new DefaultSignedAttributeTableGenerator(new AttributeTable(v));
            b.setSignedAttributeGenerator(p -> base.getAttributes(p).remove(CMSAttributes.signingTime));
        }
        String alg = key.getAlgorithm().equals("RSA") ? "SHA256withRSA" : "SHA256withECDSA";
        gen.addSignerInfoGenerator(b.build(new JcaContentSignerBuilder(alg).build(key), cert));
        gen.addCertificates(new JcaCertStore(List.of(cert)));
        return gen.generate(new CMSProcessableByteArray(content), false).getEncoded();
    }

    // fill writes into the text field "Nome" and gives it a look.
    static void fill(String in, String out) throws Exception {
        try (PDDocument doc = PDDocument.load(new File(in))) {
            PDAcroForm form = doc.getDocumentCatalog().getAcroForm(null);
            COSDictionary f = form.getField("Nome").getCOSObject();
            f.setString(COSName.V, "riempito");
            touch(doc.getDocumentCatalog().getCOSObject(), form.getCOSObject(), form.getCOSObject().getItem(COSName.FIELDS), f);
            save(doc, out);
        }
    }

    static void note(String in, String out) throws Exception {
        try (PDDocument doc = PDDocument.load(new File(in))) {
            PDPage page = doc.getPage(0);
            PDAnnotationText t = new PDAnnotationText();
            t.setRectangle(new PDRectangle(100, 100, 20, 20));
            t.setContents("nota");
            page.getAnnotations().add(t);
            touchPage(doc, page);
            save(doc, out);
        }
    }

    // write makes the words of the first page different.
    static void write(String in, String out) throws Exception {
        try (PDDocument doc = PDDocument.load(new File(in))) {
            PDPage page = doc.getPage(0);
            try (PDPageContentStream s = new PDPageContentStream(doc, page, PDPageContentStream.AppendMode.APPEND, false)) {
                s.addRect(0, 0, 600, 900);
                s.fill();
            }
            touchPage(doc, page);
            save(doc, out);
        }
    }

    static void verify(String in) throws Exception {
        byte[] file = Files.readAllBytes(Path.of(in));
        try (PDDocument doc = PDDocument.load(file)) {
            for (PDSignature s : doc.getSignatureDictionaries()) {
                CMSSignedData data = new CMSSignedData(new CMSProcessableByteArray(s.getSignedContent(file)), s.getContents(file));
                for (SignerInformation si : data.getSignerInfos().getSigners()) {
                    X509CertificateHolder cert = (X509CertificateHolder) data.getCertificates().getMatches(si.getSID()).iterator().next();
                    boolean ok = si.verify(new JcaSimpleSignerInfoVerifierBuilder().build(cert));
                    Attribute ess = si.getSignedAttributes().get(PKCSObjectIdentifiers.id_aa_signingCertificateV2);
                    boolean named = ess != null && Arrays.equals(MessageDigest.getInstance("SHA-256").digest(cert.getEncoded()),
                        SigningCertificateV2.getInstance(ess.getAttributeValues()[0]).getCerts()[0].getCertHash());
                    boolean timed = si.getSignedAttributes().get(CMSAttributes.signingTime) != null;
                    String stamp = "none";
                    AttributeTable un = si.getUnsignedAttributes();
                    if (un != null && un.get(PKCSObjectIdentifiers.id_aa_signatureTimeStampToken) != null) {
                        TimeStampToken t = new TimeStampToken(new CMSSignedData(
                            un.get(PKCSObjectIdentifiers.id_aa_signatureTimeStampToken).getAttributeValues()[0].toASN1Primitive().getEncoded()));
                        X509CertificateHolder tsa = (X509CertificateHolder) t.getCertificates().getMatches(t.getSID()).iterator().next();
                        t.validate(new JcaSimpleSignerInfoVerifierBuilder().build(tsa));
                        boolean over = Arrays.equals(t.getTimeStampInfo().getMessageImprintDigest(),
                            MessageDigest.getInstance("SHA-256").digest(si.getSignature()));
                        stamp = over ? "holds" : "foreign";
                    }
                    System.out.println("signature valid=" + ok + " ess=" + named + " signingTime=" + timed + " stamp=" + stamp + " sub=" + s.getSubFilter());
                }
            }
        }
    }
}

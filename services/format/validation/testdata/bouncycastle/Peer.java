// Signs and verifies CMS, time-stamps and XML signatures with BouncyCastle and the JDK, for the tests:
// what they make and judge owes nothing to this repository. Commands are separated by "--".
import java.io.*;
import java.math.BigInteger;
import java.nio.file.*;
import java.security.*;
import java.security.cert.*;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.*;
import javax.xml.crypto.dsig.*;
import javax.xml.crypto.dsig.dom.DOMValidateContext;
import javax.xml.parsers.DocumentBuilderFactory;
import org.bouncycastle.asn1.*;
import org.bouncycastle.asn1.cms.*;
import org.bouncycastle.asn1.ess.*;
import org.bouncycastle.asn1.pkcs.PKCSObjectIdentifiers;
import org.bouncycastle.asn1.x509.*;
import org.bouncycastle.cert.*;
import org.bouncycastle.cert.jcajce.*;
import org.bouncycastle.cms.*;
import org.bouncycastle.cms.jcajce.*;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.operator.*;
import org.bouncycastle.operator.jcajce.*;
import org.bouncycastle.tsp.*;
import org.bouncycastle.util.CollectionStore;

public class Peer {
    static final BouncyCastleProvider BC = new BouncyCastleProvider();

    public static void main(String[] args) throws Exception {
        Security.addProvider(BC);
        List<String> cmd = new ArrayList<>();
        for (String a : args) {
            if (a.equals("--")) { run(cmd); cmd.clear(); } else { cmd.add(a); }
        }
        run(cmd);
    }

    static void run(List<String> c) throws Exception {
        switch (c.get(0)) {
            case "sign": sign(c.get(1), c.get(2), c.get(3), c.get(4), c.get(5)); break;
            case "add": add(c.get(1), c.get(2), c.get(3), c.get(4)); break;
            case "counter": counter(c.get(1), c.get(2), c.get(3), c.get(4)); break;
            case "stamp": stamp(c.get(1), c.get(2), c.get(3), c.get(4)); break;
            case "verify": verify(c.get(1), c.get(2)); break;
            case "verifyxml": verifyXML(c.get(1), c.get(2)); break;
            default: throw new IllegalArgumentException(c.get(0));
        }
    }

    static byte[] read(String name) throws Exception { return Files.readAllBytes(Paths.get(name)); }

    static X509CertificateHolder cert(String name) throws Exception { return new X509CertificateHolder(read(name)); }

    static PrivateKey key(String name) throws Exception {
        for (String alg : new String[] {"RSA", "EC"}) {
            try {
                return KeyFactory.getInstance(alg, BC).generatePrivate(new PKCS8EncodedKeySpec(read(name)));
            } catch (java.security.spec.InvalidKeySpecException e) {
                continue;
            }
        }
        throw new IllegalArgumentException(name);
    }

    // A CAdES generator: signing-certificate-v2 beside content-type, signing-time and message-digest.
    static SignerInfoGenerator generator(String alg, String keyFile, String certFile, boolean bySKI, boolean direct) throws Exception {
        X509CertificateHolder cert = cert(certFile);
        ContentSigner signer = new JcaContentSignerBuilder(alg).setProvider(BC).build(key(keyFile));
        ASN1EncodableVector v = new ASN1EncodableVector();
        byte[] hash = MessageDigest.getInstance("SHA-256").digest(cert.getEncoded());
        v.add(new org.bouncycastle.asn1.cms.Attribute(PKCSObjectIdentifiers.id_aa_signingCertificateV2,
            new DERSet(new SigningCertificateV2(new ESSCertIDv2[] {new ESSCertIDv2(hash)}))));
        JcaSignerInfoGeneratorBuilder b = new JcaSignerInfoGeneratorBuilder(new JcaDigestCalculatorProviderBuilder().setProvider(BC).build());
        b.setSignedAttributeGenerator(new DefaultSignedAttributeTableGenerator(new AttributeTable(v)));
        b.setDirectSignature(direct);
        if (bySKI) {
            return b.build(signer, ASN1OctetString.getInstance(
                cert.getExtension(org.bouncycastle.asn1.x509.Extension.subjectKeyIdentifier).getParsedValue()).getOctets());
        }
        return b.build(signer, cert);
    }

    static void sign(String kind, String keyFile, String certFile, String content, String out) throws Exception {
        String alg = "EC".equals(key(keyFile).getAlgorithm()) || "ECDSA".equals(key(keyFile).getAlgorithm()) ? "SHA384withECDSA" : "SHA256withRSA";
        if (kind.equals("pss")) { alg = "SHA256withRSAandMGF1"; }
        if (kind.equals("sha512")) { alg = "SHA512withRSA"; }
        SignerInfoGenerator g = generator(alg, keyFile, certFile, kind.equals("ski"), kind.equals("direct"));
        if (kind.equals("stream")) { // BER: indefinite lengths, the content in chunks
            CMSSignedDataStreamGenerator s = new CMSSignedDataStreamGenerator();
            s.setBufferSize(1000);
            s.addSignerInfoGenerator(g);
            s.addCertificate(cert(certFile));
            try (OutputStream file = new FileOutputStream(out); OutputStream o = s.open(file, true)) { o.write(read(content)); }
            return;
        }
        CMSSignedDataGenerator s = new CMSSignedDataGenerator();
        s.addSignerInfoGenerator(g);
        s.addCertificate(cert(certFile));
        CMSSignedData made = s.generate(new CMSProcessableByteArray(read(content)), !kind.equals("detached"));
        Files.write(Paths.get(out), made.toASN1Structure().getEncoded(kind.equals("ber") ? ASN1Encoding.BER : ASN1Encoding.DER));
    }

    static void add(String file, String keyFile, String certFile, String out) throws Exception {
        CMSSignedData old = new CMSSignedData(read(file));
        CMSSignedDataGenerator s = new CMSSignedDataGenerator();
        s.addSigners(old.getSignerInfos());
        s.addCertificates(old.getCertificates());
        s.addSignerInfoGenerator(generator("SHA256withRSA", keyFile, certFile, false, false));
        s.addCertificate(cert(certFile));
        Files.write(Paths.get(out), s.generate(old.getSignedContent(), true).getEncoded());
    }

    static void counter(String file, String keyFile, String certFile, String out) throws Exception {
        CMSSignedData old = new CMSSignedData(read(file));
        SignerInformation first = old.getSignerInfos().getSigners().iterator().next();
        CMSSignedDataGenerator s = new CMSSignedDataGenerator();
        s.addSignerInfoGenerator(generator("SHA256withRSA", keyFile, certFile, false, false));
        SignerInformation countered = SignerInformation.addCounterSigners(first, s.generateCounterSigners(first));
        List<X509CertificateHolder> certs = new ArrayList<>(old.getCertificates().getMatches(null));
        certs.add(cert(certFile));
        CMSSignedData made = CMSSignedData.replaceSigners(old, new SignerInformationStore(countered));
        made = CMSSignedData.replaceCertificatesAndCRLs(made, new CollectionStore<>(certs), made.getAttributeCertificates(), made.getCRLs());
        Files.write(Paths.get(out), made.getEncoded());
    }

    static void stamp(String file, String keyFile, String certFile, String out) throws Exception {
        DigestCalculatorProvider digests = new JcaDigestCalculatorProviderBuilder().setProvider(BC).build();
        SignerInfoGenerator g = new JcaSimpleSignerInfoGeneratorBuilder().setProvider(BC).build("SHA256withECDSA", key(keyFile),
            new JcaX509CertificateConverter().setProvider(BC).getCertificate(cert(certFile)));
        TimeStampTokenGenerator t = new TimeStampTokenGenerator(g,
            digests.get(new AlgorithmIdentifier(org.bouncycastle.asn1.nist.NISTObjectIdentifiers.id_sha256)), new ASN1ObjectIdentifier("2.999.1"));
        t.addCertificates(new CollectionStore<>(List.of(cert(certFile))));
        TimeStampRequestGenerator r = new TimeStampRequestGenerator();
        r.setCertReq(true);
        TimeStampRequest req = r.generate(TSPAlgorithms.SHA512, MessageDigest.getInstance("SHA-512").digest(read(file)));
        Files.write(Paths.get(out), t.generate(req, BigInteger.valueOf(77), new Date()).getEncoded());
    }

    // ours prints what BouncyCastle finds of each signature, of its certificate attribute, its stamps and
    // its counter-signatures.
    static void verify(String file, String content) throws Exception {
        byte[] raw = read(file);
        CMSSignedData sd = content.equals("-") ? new CMSSignedData(raw) : new CMSSignedData(new CMSProcessableByteArray(read(content)), raw);
        StringBuilder line = new StringBuilder(Paths.get(file).getFileName() + ":");
        for (SignerInformation si : sd.getSignerInfos().getSigners()) { one(line, sd, si); }
        System.out.println(line);
    }

    @SuppressWarnings("unchecked")
    static X509CertificateHolder of(CMSSignedData sd, SignerId id) {
        return (X509CertificateHolder) sd.getCertificates().getMatches(id).iterator().next();
    }

    static void one(StringBuilder line, CMSSignedData sd, SignerInformation si) throws Exception {
        X509CertificateHolder cert = of(sd, si.getSID());
        boolean valid;
        try {
            valid = si.verify(new JcaSimpleSignerInfoVerifierBuilder().setProvider(BC).build(cert));
        } catch (CMSException e) {
            valid = false;
        }
        boolean ess = false;
        org.bouncycastle.asn1.cms.Attribute a = si.getSignedAttributes() == null ? null : si.getSignedAttributes().get(PKCSObjectIdentifiers.id_aa_signingCertificateV2);
        if (a != null) {
            ESSCertIDv2 id = SigningCertificateV2.getInstance(a.getAttrValues().getObjectAt(0)).getCerts()[0];
            ess = Arrays.equals(id.getCertHash(), MessageDigest.getInstance("SHA-256").digest(cert.getEncoded()));
        }
        line.append(" valid=").append(valid).append(" ess=").append(ess);
        if (si.getUnsignedAttributes() != null) {
            ASN1EncodableVector stamps = si.getUnsignedAttributes().getAll(PKCSObjectIdentifiers.id_aa_signatureTimeStampToken);
            for (int i = 0; i < stamps.size(); i++) {
                TimeStampToken t = new TimeStampToken(ContentInfo.getInstance(
                    org.bouncycastle.asn1.cms.Attribute.getInstance(stamps.get(i)).getAttrValues().getObjectAt(0)));
                X509CertificateHolder tsa = (X509CertificateHolder) t.getCertificates().getMatches(t.getSID()).iterator().next();
                t.validate(new JcaSimpleSignerInfoVerifierBuilder().setProvider(BC).build(tsa));
                boolean over = Arrays.equals(t.getTimeStampInfo().getMessageImprintDigest(), MessageDigest.getInstance("SHA-256").digest(si.getSignature()));
                line.append(" stamp=").append(over);
            }
        }
        for (SignerInformation c : si.getCounterSignatures().getSigners()) {
            line.append(" counter(");
            one(line, sd, c);
            line.append(" )");
        }
    }

    static void verifyXML(String file, String certFile) throws Exception {
        DocumentBuilderFactory f = DocumentBuilderFactory.newInstance();
        f.setNamespaceAware(true);
        org.w3c.dom.Document doc = f.newDocumentBuilder().parse(new File(file));
        org.w3c.dom.NodeList list = doc.getElementsByTagNameNS(XMLSignature.XMLNS, "Signature");
        java.security.cert.X509Certificate cert = new JcaX509CertificateConverter().setProvider(BC).getCertificate(cert(certFile));
        StringBuilder line = new StringBuilder(Paths.get(file).getFileName() + ":");
        for (int i = 0; i < list.getLength(); i++) {
            DOMValidateContext ctx = new DOMValidateContext(cert.getPublicKey(), list.item(i));
            ctx.setProperty("org.jcp.xml.dsig.secureValidation", Boolean.FALSE);
            for (String[] e : new String[][] {{"http://uri.etsi.org/01903/v1.3.2#", "SignedProperties"}, {XMLSignature.XMLNS, "KeyInfo"}}) {
                org.w3c.dom.NodeList marked = doc.getElementsByTagNameNS(e[0], e[1]);
                for (int k = 0; k < marked.getLength(); k++) { ctx.setIdAttributeNS((org.w3c.dom.Element) marked.item(k), null, "Id"); }
            }
            line.append(" valid=").append(XMLSignatureFactory.getInstance("DOM").unmarshalXMLSignature(ctx).validate(ctx));
        }
        System.out.println(line);
    }
}

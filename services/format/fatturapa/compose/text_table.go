package compose

// readings are the characters that Unicode does not decompose, or not as people
// read them. Greek follows ISO 843 (ELOT 743), Cyrillic the passport practice of
// Bulgaria and of the states that write Russian or Ukrainian.
var readings = buildReadings()

func buildReadings() map[rune]string {
	m := map[rune]string{
		'€': "EUR", '₤': "Lit.", '™': "(TM)", '℠': "(SM)", '№': "n.", '℮': "e",
		'‘': "'", '’': "'", '‚': "'", '‛': "'", '′': "'", 'ʼ': "'", 'ʹ': "'", '`': "`",
		'“': `"`, '”': `"`, '„': `"`, '‟': `"`, '″': `"`, '‹': "<", '›': ">",
		'‐': "-", '‑': "-", '‒': "-", '–': "-", '—': "-", '―': "-", '−': "-", '⁃': "-",
		'…': "...", '•': "-", '‣': "-", '●': "-", '▪': "-", '◦': "-", '·': ".",
		'≤': "<=", '≥': ">=", '≠': "<>", '≈': "~", '∞': "infinito", '√': "radice", '∅': "Ø", '⌀': "Ø",
		'→': "->", '←': "<-", '⇒': "=>", '⁄': "/", '∕': "/", '‰': "per mille",
		'\u200B': "", '\u200C': "", '\u200D': "", '\u2060': "", '\uFEFF': "", '\u00AD': "",
		'\u200E': "", '\u200F': "", '\uFE0E': "", '\uFE0F': "", '\u2028': " ", '\u2029': " ",
		'ł': "l", 'Ł': "L", 'đ': "d", 'Đ': "D", 'ħ': "h", 'Ħ': "H", 'ı': "i", 'ŋ': "n", 'Ŋ': "N",
		'œ': "oe", 'Œ': "OE", 'ĸ': "k", 'ŧ': "t", 'Ŧ': "T", 'ẞ': "SS", 'ſ': "s", 'ə': "e", 'Ə': "E",
		// For the fields of ASCII: what Latin-1 has and ASCII has not.
		'\u00A0': " ", '¡': "!", '¢': "c", '£': "GBP", '¤': "", '¥': "JPY", '¦': "|", '§': "par.", '¨': "",
		'©': "(C)", 'ª': "a", '«': `"`, '¬': "-", '®': "(R)", '¯': "-", '°': ".", '±': "+/-",
		'´': "'", 'µ': "u", '¶': "", '¸': ",", 'º': ".", '»': `"`, '¿': "?", '×': "x", '÷': ":",
		'Æ': "AE", 'æ': "ae", 'Ø': "O", 'ø': "o", 'ß': "ss", 'Þ': "TH", 'þ': "th", 'Ð': "D", 'ð': "d",
	}
	delete(m, '`') // is ASCII
	addPairs(m, "ΑAΒVΓGΔDΕEΖZΗIΙIΚKΛLΜMΝNΟOΠPΡRΣSΤTΥYΦFΩO", "αaβvγgδdεeζzηiιiκkλlμmνnοoπpρrσsςsτtυyφfωo")
	for r, s := range map[rune]string{'Θ': "Th", 'θ': "th", 'Ξ': "X", 'ξ': "x", 'Χ': "Ch", 'χ': "ch", 'Ψ': "Ps", 'ψ': "ps"} {
		m[r] = s
	}
	addPairs(m, "АAБBВVГGДDЕEЗZИIЙYКKЛLМMНNОOПPРRСSТTУUФFЫYЭEІIЇIЈJ", "аaбbвvгgдdеeзzиiйyкkлlмmнnоoпpрrсsтtуuфfыyэeіiїiјj")
	for r, s := range map[rune]string{'Ж': "Zh", 'ж': "zh", 'Х': "H", 'х': "h", 'Ц': "Ts", 'ц': "ts", 'Ч': "Ch", 'ч': "ch",
		'Ш': "Sh", 'ш': "sh", 'Щ': "Sht", 'щ': "sht", 'Ъ': "A", 'ъ': "a", 'Ь': "", 'ь': "", 'Ю': "Yu", 'ю': "yu", 'Я': "Ya", 'я': "ya",
		'Ё': "E", 'ё': "e", 'Є': "Ye", 'є': "ye", 'Ґ': "G", 'ґ': "g", 'Ђ': "Dj", 'ђ': "dj", 'Љ': "Lj", 'љ': "lj",
		'Њ': "Nj", 'њ': "nj", 'Ћ': "C", 'ћ': "c", 'Џ': "Dz", 'џ': "dz"} {
		m[r] = s
	}
	return m
}

// addPairs reads lists of a letter and its reading of one letter.
func addPairs(m map[rune]string, lists ...string) {
	for _, list := range lists {
		pairs := []rune(list)
		for i := 0; i+1 < len(pairs); i += 2 {
			m[pairs[i]] = string(pairs[i+1])
		}
	}
}

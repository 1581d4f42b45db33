// Texts as numbers of tokens, as the tokenizer's own file (tokenizer.json) says: what the exporter let pass, and no more.
globalThis.limbeckTokens = (() => {
  "use strict";
  const spaces = /\p{White_Space}/u, marks = /\p{Mn}/gu, control = /[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Cs}]/u;
  const chinese = /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;
  const punctuation = /[!-/:-@[-`{-~\p{P}]/u;

  // White space as Unicode has it: JavaScript's own \s has the byte order mark too.
  function trimmed(text, left, right) {
    if (left) text = text.replace(/^\p{White_Space}+/u, "");
    return right ? text.replace(/\p{White_Space}+$/u, "") : text;
  }

  const normalizers = {
    Sequence: (text, p) => p.normalizers.reduce((t, each) => normalizers[each.type](t, each), text),
    Lowercase: (text) => text.toLowerCase(),
    NFC: (text) => text.normalize("NFC"),
    NFD: (text) => text.normalize("NFD"),
    NFKC: (text) => text.normalize("NFKC"),
    NFKD: (text) => text.normalize("NFKD"),
    StripAccents: (text) => text.replace(marks, ""),
    Strip: (text, p) => trimmed(text, p.strip_left, p.strip_right),
    Prepend: (text, p) => (text ? p.prepend + text : text),
    Replace: (text, p) => text.split(p.pattern.String).join(p.content),
    BertNormalizer(text, p) {
      if (p.clean_text)
        text = Array.from(text, (c) => {
          if (/[\t\n\r]/.test(c)) return " ";
          return c === "\ufffd" || control.test(c) ? "" : spaces.test(c) ? " " : c;
        }).join("");
      if (p.handle_chinese_chars) text = text.replace(chinese, " $& ");
      if (p.strip_accents ?? p.lowercase) text = text.normalize("NFD").replace(marks, "");
      return p.lowercase ? Array.from(text, (c) => c.toLowerCase()).join("") : text;
    },
  };

  // Pieces of a text, each split further.
  const splitters = {
    Sequence: (words, p) => p.pretokenizers.reduce((all, each) => splitters[each.type](all, each), words),
    WhitespaceSplit: (words) => words.flatMap((word) => word.match(/\P{White_Space}+/gu) || []),
    Whitespace: (words) => words.flatMap((word) => word.match(/[\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\u200c\u200d]+|[^\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\u200c\u200d\p{White_Space}]+/gu) || []),
    Punctuation: (words) => words.flatMap((word) => isolated(word, punctuation)),
    Digits: (words, p) => words.flatMap((word) => (p.individual_digits ? isolated(word, /\p{N}/u) : word.match(/\p{N}+|\P{N}+/gu) || [])),
    BertPreTokenizer: (words) => splitters.WhitespaceSplit(words).flatMap((word) => isolated(word, punctuation)),
    ByteLevel(words, p) {
      return words.flatMap((word) => {
        if (p.add_prefix_space && !word.startsWith(" ")) word = ` ${word}`;
        const pieces = p.use_regex === false ? [word]
          : word.match(/'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu) || [];
        return pieces.map((piece) => Array.from(new TextEncoder().encode(piece), (byte) => letters[byte]).join(""));
      });
    },
  };

  // A printable letter for each byte, as byte-level tokenizers have them.
  const letters = (() => {
    const plain = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    let more = 256;
    return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(plain(byte) ? byte : more++));
  })();

  function isolated(word, odd) {
    const pieces = [];
    let open = false;
    for (const letter of word) {
      if (odd.test(letter)) { pieces.push(letter); open = false; }
      else if (open) pieces[pieces.length - 1] += letter;
      else { pieces.push(letter); open = true; }
    }
    return pieces;
  }

  // Tokens of one piece.
  const models = {
    WordPiece(m) {
      const known = m.vocab, unknown = known[m.unk_token];
      return (word) => {
        const all = Array.from(word), found = [];
        if (all.length > m.max_input_chars_per_word) return [unknown];
        for (let start = 0; start < all.length; ) {
          let end = all.length, number;
          for (; end > start; end--) {
            number = known[(start ? m.continuing_subword_prefix : "") + all.slice(start, end).join("")];
            if (number !== undefined) break;
          }
          if (end === start) return [unknown];
          found.push(number);
          start = end;
        }
        return found;
      };
    },
    WordLevel: (m) => (word) => [m.vocab[word] ?? m.vocab[m.unk_token]].filter((number) => number !== undefined),
    BPE(m) {
      const ranks = new Map(m.merges.map((pair, rank) => [typeof pair === "string" ? pair : pair.join(" "), rank]));
      return (word) => {
        if (m.ignore_merges && m.vocab[word] !== undefined) return [m.vocab[word]];
        let parts = [];
        const all = Array.from(word);
        all.forEach((letter, i) => {
          const part = (i && m.continuing_subword_prefix || "") + letter + (i === all.length - 1 && m.end_of_word_suffix || "");
          if (m.vocab[part] !== undefined) parts.push(part);
          else if (m.unk_token != null && !(m.fuse_unk && parts[parts.length - 1] === null)) parts.push(null);
        });
        for (;;) {
          let best = Infinity, at = -1;
          for (let i = 0; i + 1 < parts.length; i++) {
            if (parts[i] === null || parts[i + 1] === null) continue;
            const rank = ranks.get(`${parts[i]} ${parts[i + 1]}`);
            if (rank < best) { best = rank; at = i; }
          }
          if (at < 0) break;
          parts.splice(at, 2, parts[at] + parts[at + 1].slice((m.continuing_subword_prefix || "").length));
        }
        return parts.map((part) => (part === null ? m.vocab[m.unk_token] : m.vocab[part]));
      };
    },
  };

  // Parts of a text between tokens that were added to the tokenizer, which are numbers already.
  function parted(parts, added) {
    for (const token of added)
      parts = parts.flatMap((part) => {
        if (typeof part === "number") return [part];
        const found = [];
        part.split(token.content).forEach((piece, i, all) => {
          piece = trimmed(piece, i && token.rstrip, i < all.length - 1 && token.lstrip);
          if (i) found.push(token.id);
          if (piece) found.push(piece);
        });
        return found;
      });
    return parts;
  }

  function opened(file, { length, before, after, empty }) {
    const words = models[file.model.type](file.model);
    const added = [...file.added_tokens].sort((a, b) => b.content.length - a.content.length);
    const normal = (text) => (file.normalizer ? normalizers[file.normalizer.type](text, file.normalizer) : text);
    return (text) => {
      const numbers = parted([text], added.filter((token) => !token.normalized)).flatMap((part) => {
        if (typeof part === "number") return [part];
        return parted([normal(part)], added.filter((token) => token.normalized)).flatMap((piece) => {
          if (typeof piece === "number") return [piece];
          const split = file.pre_tokenizer ? splitters[file.pre_tokenizer.type]([piece], file.pre_tokenizer) : [piece];
          return split.flatMap(words);
        });
      });
      const room = Math.max(0, length - before.length - after.length);
      const all = [...before, ...numbers.slice(0, room), ...after];
      return { ids: all.length ? all : [empty], cut: Math.max(0, numbers.length - room) };
    };
  }

  return { opened };
})();

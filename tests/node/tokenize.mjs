// Reference tokenization: node tokenize.mjs TOKENIZER_JSON < LINES
// Each input line is {"b64": base64 of the bytes of a text}; each output line the JSON array of its token ids, with the
// special tokens of the post-processor. Ill-formed UTF-8 is replaced as TextDecoder does it; a byte order mark stays.
import { readFileSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Tokenizer } from '@huggingface/tokenizers';

const tokenizer = new Tokenizer(JSON.parse(readFileSync(process.argv[2], 'utf8')), {
  clean_up_tokenization_spaces: false,
});
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/// Writes all of `text`; a pipe may take it in parts or ask to wait.
function put(text) {
  let bytes = Buffer.from(text);
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(writeSync(1, bytes));
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
    }
  }
}

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  if (line === '') continue;
  const text = decoder.decode(Buffer.from(JSON.parse(line).b64, 'base64'));
  put(JSON.stringify(tokenizer.encode(text, { add_special_tokens: true }).ids) + '\n');
}

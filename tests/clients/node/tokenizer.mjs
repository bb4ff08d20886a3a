// Transformers.js on a local folder: node tokenizer.mjs PARENT NAME, texts and messages as JSON on stdin.
import { readFileSync } from "node:fs";
import { AutoTokenizer, env } from "@huggingface/transformers";

const [parent, name] = process.argv.slice(2);
env.allowRemoteModels = false;
env.localModelPath = parent;
const { texts, messages } = JSON.parse(readFileSync(0, "utf8"));
const tokenizer = await AutoTokenizer.from_pretrained(name);
const ids = texts.map((text) => tokenizer.encode(text, { add_special_tokens: false }));
const options = { tokenize: true, return_tensor: false, return_dict: false, add_generation_prompt: true };
const chat = (messages ?? []).map((one) => tokenizer.apply_chat_template(one, options));
console.log(JSON.stringify({ ids, chat }));

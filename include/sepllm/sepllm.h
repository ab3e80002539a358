/* SepLLM as a C library: language models on the CPU whose attention keeps only initial tokens, separators and
 * a neighbouring window. docs/C-API.md is the guide; this header is the reference.
 *
 * Results. Every function that can fail returns a sepllm_status. SEPLLM_OK is 0; after anything else the
 * outputs are unchanged (unless the function says otherwise), and sepllm_last_error() has one line that says
 * what is wrong. No function aborts, prints, or lets a C++ exception out.
 *
 * Memory. What a function gives through an `out` handle is freed by the function named sepllm_X_free for its
 * type; strings and arrays that it allocates are freed by sepllm_free. Both accept NULL. Handles may be freed
 * in any order: what another handle still needs stays until that one is freed. Inputs are read during the
 * call only.
 *
 * Options are JSON objects as text, with the names of the command line without dashes in front ("window",
 * "prefill-chunk"). NULL is the same as {}. An unknown name or a value out of range is
 * SEPLLM_INVALID_ARGUMENT. Text is UTF-8. Token ids are int32_t. File names are in the system's encoding.
 *
 * Threads. Every function may be called from any thread. Models and tokenizers may be used by any number of
 * threads at the same time. A session, a generation and a cache are used by one call at a time: a second call
 * that comes in meanwhile fails with SEPLLM_BUSY and changes nothing. Calls that compute take turns within
 * one sepllm_runtime; sessions that are to run at the same time need runtimes of their own. Freeing a handle
 * that is in use by another call is an error of the program that is not detected, as with free().
 *
 * The process. What this library sets for the whole process: OpenBLAS uses one thread (this library has its
 * own threads), and on processors with AMX the system is asked for permission to use its tiles. It installs
 * no signal handlers, changes no locale or environment, and writes no file that it is not told to write.
 * Several copies of the library in one process do not know of each other. Handles do not survive fork() in
 * the child process.
 */
#ifndef SEPLLM_SEPLLM_H
#define SEPLLM_SEPLLM_H

#include <stddef.h>
#include <stdint.h>

#ifndef SEPLLM_API
#define SEPLLM_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Errors, version, log ---- */

typedef enum sepllm_status {
  SEPLLM_OK = 0,
  SEPLLM_INVALID_ARGUMENT = 1, /* an argument or an option is wrong */
  SEPLLM_NOT_FOUND = 2,        /* a file, tensor or name is missing */
  SEPLLM_BAD_FILE = 3,         /* a file's content contradicts its format or another file */
  SEPLLM_UNSUPPORTED = 4,      /* well-formed, but not supported */
  SEPLLM_OUT_OF_RANGE = 5,     /* a limit of the model or the machine is exceeded */
  SEPLLM_IO = 6,               /* the operating system reported a failure */
  SEPLLM_OUT_OF_MEMORY = 7,    /* there is not enough memory */
  SEPLLM_BUSY = 8,             /* another call uses the handle at this moment */
  SEPLLM_INVALID_STATE = 9,    /* the handle is not ready for this call */
  SEPLLM_CANCELLED = 10,       /* the caller's own function asked to end the call */
  SEPLLM_INTERNAL = 11         /* a bug of the library; please report it */
} sepllm_status;

/* One line about the last failure in the calling thread; "" if there was none. Valid until the next call that
 * fails in this thread. Never NULL. */
SEPLLM_API const char* sepllm_last_error(void);
/* "ok", "invalid argument", ...; "unknown status" for other numbers. Never NULL, and never freed. */
SEPLLM_API const char* sepllm_status_name(sepllm_status status);
/* "0.1.0". Never freed. */
SEPLLM_API const char* sepllm_version(void);
/* Frees a string or an array that a function of this library allocated. */
SEPLLM_API void sepllm_free(void* memory);

typedef enum sepllm_log_level {
  SEPLLM_LOG_DEBUG = 0,
  SEPLLM_LOG_INFO = 1,
  SEPLLM_LOG_WARNING = 2
} sepllm_log_level;
typedef void (*sepllm_log_function)(sepllm_log_level level, const char* message, void* user);
/* From now on warnings and notes go to this function, for the whole library; NULL (the state at first) drops
 * them. It is called by the thread that logs, by one at a time, and must not call sepllm_set_log. */
SEPLLM_API sepllm_status sepllm_set_log(sepllm_log_function log, void* user);

/* ---- Threads and scratch memory ---- */

typedef struct sepllm_runtime sepllm_runtime;

/* A set of threads and scratch memory. n_threads: 1 to 1024 with the calling one; 0: all cores, within the
 * CPU quota of a container. Results do not depend on the number. */
SEPLLM_API sepllm_status sepllm_runtime_new(int n_threads, sepllm_runtime** out);
SEPLLM_API void sepllm_runtime_free(sepllm_runtime* runtime);
/* The number of its threads; 0 for NULL. */
SEPLLM_API int sepllm_runtime_threads(const sepllm_runtime* runtime);

/* ---- Models ---- */

typedef struct sepllm_model sepllm_model;

/* Loads a model: a Hugging Face folder (config.json, safetensors, tokenizer) or a GGUF file. Weights that
 * keep the type of the file are mapped, not read; the file must not change while the model exists. A folder
 * without a tokenizer gives a model that takes ids only. options:
 *
 * - "tokenizer": a tokenizer's file or folder, if it is not in the model's folder;
 * - "weights": "native" (the default), "f32", "bf16", "q8_0", "q4_0", ...: the type in which weights are
 *   multiplied;
 * - "threads": of the model's own runtime, which serves sessions without one (default 0: all cores);
 * - "walks": true measures for at most 50 ms which way of reading large weights is fast here (results do not
 *   depend on it). */
SEPLLM_API sepllm_status sepllm_model_load(const char* path, const char* options, sepllm_model** out);
SEPLLM_API void sepllm_model_free(sepllm_model* model);
/* Sets *out to a JSON object, to be freed: "family", "vocab_size", "hidden_size", "n_layers", "n_heads",
 * "n_kv_heads", "head_dim", "max_positions", "parameters", "weight_bytes", "bos_id" (or null), "end_tokens",
 * "policy" (the model's own, or null), "tokenizer" (its format, or null), "version", "instruction_sets",
 * "threads". */
SEPLLM_API sepllm_status sepllm_model_info(const sepllm_model* model, char** out);
/* The number of logits; 0 for NULL. */
SEPLLM_API int64_t sepllm_model_vocab_size(const sepllm_model* model);

/* Sets *out to all policy settings in force for these options (those of sepllm_session_new) in a session of
 * this model, as a JSON object, to be freed. This also checks the options. model: NULL for those of a session
 * of a model without settings of its own. */
SEPLLM_API sepllm_status sepllm_policy_resolve(const sepllm_model* model, const char* options, char** out);

/* ---- Tokenizers ---- */

typedef struct sepllm_tokenizer sepllm_tokenizer;

/* Reads the tokenizer of a folder, or one file of it, or that of a GGUF file. */
SEPLLM_API sepllm_status sepllm_tokenizer_load(const char* path, sepllm_tokenizer** out);
/* The tokenizer of a model (a new handle). SEPLLM_NOT_FOUND if it has none. */
SEPLLM_API sepllm_status sepllm_model_tokenizer(const sepllm_model* model, sepllm_tokenizer** out);
SEPLLM_API void sepllm_tokenizer_free(sepllm_tokenizer* tokenizer);
/* One more than the largest id; 0 for NULL. */
SEPLLM_API int64_t sepllm_tokenizer_vocab_size(const sepllm_tokenizer* tokenizer);
/* The ids of BOS and EOS; -1 if there is none. */
SEPLLM_API int32_t sepllm_tokenizer_bos(const sepllm_tokenizer* tokenizer);
SEPLLM_API int32_t sepllm_tokenizer_eos(const sepllm_tokenizer* tokenizer);
/* Whether its files put a BOS before a text. */
SEPLLM_API int sepllm_tokenizer_adds_bos(const sepllm_tokenizer* tokenizer);

enum {
  SEPLLM_PLAIN_TEXT = 1,  /* encode: special strings ("<|endoftext|>") in the text are ordinary text */
  SEPLLM_ADD_SPECIAL = 2, /* encode: add the tokens that the tokenizer's files put around a text (BOS, ...) */
  SEPLLM_SKIP_SPECIAL = 4 /* decode: leave special tokens out */
};
/* Sets *ids to the *n_ids ids of `text` (n_bytes bytes; it may contain zeros), to be freed; NULL and 0 for an
 * empty text. flags: a sum of the above. SEPLLM_INVALID_ARGUMENT for text that is not UTF-8. */
SEPLLM_API sepllm_status sepllm_tokenizer_encode(const sepllm_tokenizer* tokenizer, const char* text,
                                                 size_t n_bytes, int flags, int32_t** ids, size_t* n_ids);
/* Sets *text to the bytes of these tokens, with a zero behind the last, to be freed; *n_bytes (may be NULL)
 * to their number. They need not be valid UTF-8, because a token may be a part of a character. */
SEPLLM_API sepllm_status sepllm_tokenizer_decode(const sepllm_tokenizer* tokenizer, const int32_t* ids,
                                                 size_t n_ids, int flags, char** text, size_t* n_bytes);

/* Sets *ids to the *n_ids tokens that are separators by this rule, ascending, to be freed. rule: NULL for
 * "text", or "text", "paper", "strings:S" or "ids:1,2,3" (docs/METHOD.md#separators); vocab_size: of the
 * model, all ids are below it, or 0 for the tokenizer's; streaming: whether "paper" means the reference's
 * longer list for streams. */
SEPLLM_API sepllm_status sepllm_tokenizer_separators(const sepllm_tokenizer* tokenizer, const char* rule,
                                                     int64_t vocab_size, int streaming, int32_t** ids,
                                                     size_t* n_ids);

/* ---- Sessions ---- */

/* One sequence in progress: tokens go in, logits come out, and a cache holds the keys that the policy keeps.
 */
typedef struct sepllm_session sepllm_session;

/* An empty session. runtime: NULL for the model's own. options:
 *
 * - the policy's settings: "policy", "init", "window", "seps", "capacity", "interval", "max-segment",
 * "sep-replace", "layer-window", "layer-policy", "separators", "positions", "rope-length", "kv",
 * "prefill-chunk"; docs/CLI.md says what they mean, and what is left open is as the model's files say;
 * - "rewind": false for a session that does not need sepllm_session_rewind and takes less memory;
 * - "exact": true multiplies 8- and 4-bit weights as f32. */
SEPLLM_API sepllm_status sepllm_session_new(const sepllm_model* model, const char* options,
                                            sepllm_runtime* runtime, sepllm_session** out);
SEPLLM_API void sepllm_session_free(sepllm_session* session);
/* The number of tokens that it has seen; 0 for NULL. */
SEPLLM_API int64_t sepllm_session_length(const sepllm_session* session);
/* Feeds n_ids >= 1 tokens and computes the logits after the last one. SEPLLM_CANCELLED: the first ones have
 * entered, as sepllm_session_length() says, and there are no logits. */
SEPLLM_API sepllm_status sepllm_session_feed(sepllm_session* session, const int32_t* ids, size_t n_ids);
/* Copies the logits after the last token to logits, [n] with n = sepllm_model_vocab_size().
 * SEPLLM_INVALID_STATE where there are none: before the first token, after rewind and restore. */
SEPLLM_API sepllm_status sepllm_session_logits(sepllm_session* session, float* logits, int64_t n);
/* Feeds ids[i] to sessions[i], for n >= 1 sessions, and computes the logits after it of each: the same as n
 * calls of sepllm_session_feed with one token, to the last bit, but the weights are read once for (up to 32
 * of) them. The sessions belong to the same model and runtime, each is there once, and all or none are
 * "exact" (otherwise SEPLLM_INVALID_ARGUMENT); policies and lengths may differ. SEPLLM_BUSY if another call
 * uses one of them. Their functions of sepllm_session_set_poll are asked before the pass. Whatever fails
 * before the pass changes nothing. SEPLLM_BAD_FILE: logits are NaN or infinite; the tokens have entered, and
 * the sessions with such logits have none. SEPLLM_OUT_OF_MEMORY and SEPLLM_OUT_OF_RANGE may come from within
 * a pass: its sessions cannot continue then (SEPLLM_INVALID_STATE), and those of other passes can. */
SEPLLM_API sepllm_status sepllm_sessions_decode(sepllm_session* const* sessions, size_t n,
                                                const int32_t* ids);
/* How sepllm_session_sample chooses, and from which random numbers: "temp" (0, greedy, at first), "top-k",
 * "top-p", "min-p", "repeat-penalty", "repeat-last-n", "seed". */
SEPLLM_API sepllm_status sepllm_session_set_sampling(sepllm_session* session, const char* options);
/* Chooses a token from the logits; it is not fed. Errors as for sepllm_session_logits. */
SEPLLM_API sepllm_status sepllm_session_sample(sepllm_session* session, int32_t* id);
/* Feeds n_ids >= 1 tokens and sets nll[i] to the negative log likelihood, in nats, of ids[i] after all tokens
 * before it: nll is [n_ids]. best: NULL, or [n_ids]: best[i] is the most likely token in the place of ids[i]
 * (of equal ones the smallest id); nll is rounded to single precision then. nll[0] is NaN and best[0] is -1
 * if the session had no logits before. The logits after the last token are computed. SEPLLM_CANCELLED as for
 * sepllm_session_feed; then nll and best are set for the tokens that have entered. */
SEPLLM_API sepllm_status sepllm_session_score(sepllm_session* session, const int32_t* ids, size_t n_ids,
                                              double* nll, int32_t* best);
/* The same for the last n_scored of the n_ids tokens, 0 <= n_scored <= n_ids: nll and best are [n_scored]
 * (NULL is allowed for 0). The tokens before them are fed without the work of their logits. */
SEPLLM_API sepllm_status sepllm_session_score_last(sepllm_session* session, const int32_t* ids, size_t n_ids,
                                                   size_t n_scored, double* nll, int32_t* best);
/* A copy that gives the same bits for whatever follows, on the same runtime or (not NULL) another one. */
SEPLLM_API sepllm_status sepllm_session_fork(sepllm_session* session, sepllm_runtime* runtime,
                                             sepllm_session** out);
/* Goes back to when `position` tokens had entered, 0 <= position <= length. There are no logits then. Recent
 * positions are always reached; SEPLLM_OUT_OF_RANGE, and nothing changes, for one that a bounded cache has
 * long dropped. */
SEPLLM_API sepllm_status sepllm_session_rewind(sepllm_session* session, int64_t position);
/* Writes everything that is needed to continue into one file, completely or not at all. */
SEPLLM_API sepllm_status sepllm_session_save(sepllm_session* session, const char* path);
/* Continues where the saved session was, with the same bits. SEPLLM_BAD_FILE, and nothing changes, for a file
 * that is damaged or belongs to another model, policy or set of separators. There are no logits then. */
SEPLLM_API sepllm_status sepllm_session_restore(sepllm_session* session, const char* path);

/* Asked before each chunk of tokens in feed, score and generation, by the calling thread; another result than
 * 0 ends the call with SEPLLM_CANCELLED. It must not use the session. NULL: nothing is asked. Forks do not
 * inherit it. */
typedef int (*sepllm_poll_function)(void* user);
SEPLLM_API sepllm_status sepllm_session_set_poll(sepllm_session* session, sepllm_poll_function poll,
                                                 void* user);

/* What a cache held, measured from what the kernels read. */
typedef struct sepllm_kv_stats {
  int64_t queries;   /* pairs of query and layer */
  int64_t keys;      /* keys that they saw */
  int64_t full_keys; /* keys that full attention would have seen */
  int64_t peak_keys; /* the most keys of one query in one layer */
  int64_t held_bytes, peak_bytes, full_bytes,
      reserved_bytes;           /* slots now, at the peak, under full attention now */
  double mean_keys, mean_share; /* keys / queries, keys / full_keys */
} sepllm_kv_stats;
SEPLLM_API sepllm_status sepllm_session_kv_stats(sepllm_session* session, sepllm_kv_stats* out);
/* The tokens whose keys a layer holds now, each once, in the order of their slots (a static policy drops what
 * has left the window when the next tokens come): *positions (in the text, from 0) and *ids, arrays of *n, to
 * be freed (each may be NULL if not wanted). */
SEPLLM_API sepllm_status sepllm_session_kv_slots(sepllm_session* session, int64_t layer, int64_t** positions,
                                                 int32_t** ids, size_t* n);

/* ---- Generation ---- */

typedef struct sepllm_generation sepllm_generation;

typedef enum sepllm_finish {
  SEPLLM_FINISH_NONE = 0,   /* it is still running */
  SEPLLM_FINISH_LENGTH = 1, /* as many new tokens as were asked for */
  SEPLLM_FINISH_STOP = 2,   /* a stop token or a stop string */
  SEPLLM_FINISH_CANCELLED = 3,
  SEPLLM_FINISH_ERROR = 4
} sepllm_finish;

/* Prepares to continue the session's text with these n_ids tokens (0: from the session's logits) and new
 * ones. options: "n": most new tokens (default 256); "stop": [strings that end the text and are not part of
 * it]; "stop-ids": [tokens, in addition to the model's end tokens]; "ignore-eos"; "skip-special"; and those
 * of sepllm_session_set_sampling. Nothing is computed yet. */
SEPLLM_API sepllm_status sepllm_generation_new(sepllm_session* session, const int32_t* ids, size_t n_ids,
                                               const char* options, sepllm_generation** out);
SEPLLM_API void sepllm_generation_free(sepllm_generation* generation);
/* Computes the next token. *text (*n_bytes bytes, UTF-8, a zero behind them, valid until the next call) is
 * what became certain of the text: whole characters, and never part of a stop string; it may be empty. *more
 * is 0 when the text has ended (then *text has its rest), else 1. The session must not be changed between two
 * calls (SEPLLM_INVALID_STATE). If the model cannot continue (learned positions that end), the error is
 * reported once, and the text ends. */
SEPLLM_API sepllm_status sepllm_generation_next(sepllm_generation* generation, const char** text,
                                                size_t* n_bytes, int* more);
typedef struct sepllm_generation_step {
  sepllm_status status; /* not SEPLLM_OK: what sepllm_generation_next would have returned for this text */
  const char* error;    /* then its message, else NULL */
  const char* text;     /* [n_bytes] and a zero, as sepllm_generation_next gives it */
  size_t n_bytes;
  int more; /* 0: this text has ended, or failed */
} sepllm_generation_step;
/* Computes the next token of each of n >= 1 generations and describes it in out, [n]; what out points to is
 * valid until the next call with that generation. The texts are the same as with sepllm_generation_next, to
 * the last bit, but the weights are read once for (up to 32 of) them; prompts are fed one after the other.
 * Generations that have ended may be among them. Their sessions belong to the same model and runtime, each is
 * there once, and all or none are "exact". An error of one text is told in its place of out and does not
 * concern the others; if the call itself fails, nothing has changed, and out is not set. */
SEPLLM_API sepllm_status sepllm_generations_next(sepllm_generation* const* generations, size_t n,
                                                 sepllm_generation_step* out);
typedef struct sepllm_generation_result {
  sepllm_finish finish;
  const int32_t*
      ids; /* [n_ids] new tokens without the stop token; valid as long as the generation is not used */
  size_t n_ids;
  const char* text; /* everything, [n_bytes] and a zero */
  size_t n_bytes;
  int64_t n_fed; /* tokens that this generation fed before the first new one */
  double prefill_seconds, decode_seconds;
} sepllm_generation_result;
/* What was generated so far. The last new token enters the session only when another one follows it. */
SEPLLM_API sepllm_status sepllm_generation_get(sepllm_generation* generation, sepllm_generation_result* out);

/* Gets each piece of text, after each token (n_bytes may be 0); another result than 0 ends the text. It may
 * use every handle except the session and its generation. */
typedef int (*sepllm_text_function)(const char* text, size_t n_bytes, void* user);
/* All of it in one call. `out` (may be NULL) gets the generation, for sepllm_generation_get, also when an
 * error ended the text after it had begun. */
SEPLLM_API sepllm_status sepllm_session_generate(sepllm_session* session, const int32_t* ids, size_t n_ids,
                                                 const char* options, sepllm_text_function on_text,
                                                 void* user, sepllm_generation** out);

/* ---- Attention as an operator ---- */

/* f32 values x[batch][head][token][d], d < dim, at
 *   data[batch * batch_stride + head * head_stride + token * token_stride + d]:
 * strides are in elements, and the last dimension is contiguous. */
typedef struct sepllm_tensor {
  float* data; /* aligned to 4 bytes */
  int64_t batch_stride, head_stride, token_stride;
} sepllm_tensor;

/* Key j is visible to query i if j <= i, both are in the same document, and (j is one of the document's first
 * n_initial tokens, or j is in `kept`, or i - j < window). */
typedef struct sepllm_pattern {
  int64_t n_tokens;    /* of this sequence, <= tokens: the rest is padding, whose results are 0 */
  int64_t n_initial;   /* >= 0 */
  int64_t window;      /* >= 1; 0: every earlier key is visible */
  const int64_t* kept; /* [n_kept] ascending positions of the separators; NULL if there are none */
  size_t n_kept;
  const int64_t* document_starts; /* [n_documents] ascending; NULL: one document from 0 */
  size_t n_documents;
} sepllm_pattern;

typedef struct sepllm_attention {
  int64_t batch, heads, kv_heads, tokens, head_dim; /* kv_heads divides heads; head_dim is 1 to 1024 */
  float scale;                                      /* 0: 1 / sqrt(head_dim) */
  sepllm_tensor q, k, v; /* k and v have kv_heads heads, and the same head_stride and token_stride */
  sepllm_tensor out;     /* as many heads as q */
  sepllm_tensor
      log_sum_exp; /* [batch][heads][tokens][1], which the backward pass reads; data NULL: not wanted */
  const float* alibi_slopes;      /* NULL, or [heads]: slope * (j - i) is added to the scaled score */
  const sepllm_pattern* patterns; /* [n_patterns]: one for each sequence of the batch, or one for all */
  size_t n_patterns;
} sepllm_attention;

/* out = softmax(scale * q k^T + bias) v over the visible keys; query head h reads kv head h / (heads /
 * kv_heads). Work and memory are proportional to the visible pairs. The result does not depend on the number
 * of threads. SEPLLM_INVALID_ARGUMENT for shapes, strides (outputs must not overlap) and patterns that
 * contradict each other. */
SEPLLM_API sepllm_status sepllm_attention_forward(sepllm_runtime* runtime, const sepllm_attention* attention);
/* Sets d_q, d_k, d_v, the gradients of a loss, from d_out, that of `out`. `attention` has the results of the
 * forward pass (out and log_sum_exp). */
SEPLLM_API sepllm_status sepllm_attention_backward(sepllm_runtime* runtime, const sepllm_attention* attention,
                                                   sepllm_tensor d_out, sepllm_tensor d_q, sepllm_tensor d_k,
                                                   sepllm_tensor d_v);

/* ---- A bounded cache for models of your own ---- */

/* The keys and values of one sequence, of which a policy decides what stays. One chunk of tokens:
 *
 *   sepllm_cache_begin(cache, ids, n);
 *   for each layer: rotate queries and keys by sepllm_cache_places(); sepllm_cache_attend(cache, layer, &o);
 *   sepllm_cache_end(cache, frequencies, n, interleaved);
 *
 * A call that fails within a chunk leaves the cache unusable (SEPLLM_INVALID_STATE from then on). */
typedef struct sepllm_cache sepllm_cache;

/* options: "layers", "kv-heads", "head-dim" (required), "vocab-size" (required where the policy has
 * separators: ids are below it), and the policy's settings as for sessions; "separators" is "ids:1,2,3" here.
 */
SEPLLM_API sepllm_status sepllm_cache_new(sepllm_runtime* runtime, const char* options, sepllm_cache** out);
SEPLLM_API void sepllm_cache_free(sepllm_cache* cache);
/* A copy, between two chunks. */
SEPLLM_API sepllm_status sepllm_cache_fork(sepllm_cache* cache, sepllm_cache** out);
/* The number of tokens seen; 0 for NULL. */
SEPLLM_API int64_t sepllm_cache_length(const sepllm_cache* cache);
/* How many tokens may enter in one chunk at this moment; 0 for NULL. */
SEPLLM_API int64_t sepllm_cache_max_chunk(const sepllm_cache* cache);
/* Begins a chunk of 1 <= n <= sepllm_cache_max_chunk() tokens. */
SEPLLM_API sepllm_status sepllm_cache_begin(sepllm_cache* cache, const int32_t* ids, size_t n);
/* Within a chunk: the places of its tokens for the position encoding, [n] in memory of the cache, valid until
 * its end: *places for keys and queries; *second_places NULL, or for queries that are rotated a second time
 * (sink-stream with cache positions sees its initial tokens from another place). */
SEPLLM_API sepllm_status sepllm_cache_places(sepllm_cache* cache, int64_t layer, const int64_t** places,
                                             const int64_t** second_places);
typedef struct sepllm_cache_operands {
  int64_t heads;          /* of the queries: a multiple of the cache's kv-heads */
  float scale;            /* 0: 1 / sqrt(head_dim) */
  sepllm_tensor q, k, v;  /* [heads or kv heads][n][head_dim]; batch strides are ignored */
  sepllm_tensor second_q; /* queries for the second places; data NULL unless there are any */
  sepllm_tensor out;      /* as q */
} sepllm_cache_operands;
/* Stores keys and values of one layer, and sets out to the attention of the queries to what they see. Each
 * layer once in a chunk, in any order. */
SEPLLM_API sepllm_status sepllm_cache_attend(sepllm_cache* cache, int64_t layer,
                                             const sepllm_cache_operands* operands);
/* Ends the chunk. Streaming policies move rows, and rotate keys by the distance that they moved:
 * inverse_frequencies: [n_frequencies] radians per position (NULL and 0: keys are not rotated); interleaved:
 * whether pairs are (2i, 2i + 1) instead of (i, i + n_frequencies). */
SEPLLM_API sepllm_status sepllm_cache_end(sepllm_cache* cache, const double* inverse_frequencies,
                                          size_t n_frequencies, int interleaved);
SEPLLM_API sepllm_status sepllm_cache_kv_stats(sepllm_cache* cache, sepllm_kv_stats* out);

#ifdef __cplusplus
}
#endif

#endif /* SEPLLM_SEPLLM_H */

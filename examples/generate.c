/* Continues a text with a model, prints it as it comes, and says how many keys the cache held.
 *   cc generate.c $(pkg-config --cflags --libs sepllm) -o generate
 *   ./generate MODEL TEXT [OPTIONS]     where OPTIONS is a policy as JSON: '{"policy": "sep", "window": 64}'
 */
#include <sepllm/sepllm.h>
#include <stdio.h>
#include <string.h>

static int fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, sepllm_last_error());
  return 1;
}

static int show(const char* text, size_t n_bytes, void* user) {
  fwrite(text, 1, n_bytes, (FILE*)user);
  fflush((FILE*)user);
  return 0; /* 1 would end the text */
}

static void warn(sepllm_log_level level, const char* message, void* user) {
  (void)user;
  if (level == SEPLLM_LOG_WARNING) fprintf(stderr, "warning: %s\n", message);
}

int main(int argc, char** argv) {
  sepllm_model* model = NULL;
  sepllm_tokenizer* tokenizer = NULL;
  sepllm_session *session = NULL, *other = NULL;
  int32_t* ids = NULL;
  size_t n_ids = 0;
  int code = 1;
  if (argc < 3) return fprintf(stderr, "usage: %s MODEL TEXT [OPTIONS]\n", argv[0]), 1;
  sepllm_set_log(warn, NULL);

  if (sepllm_model_load(argv[1], NULL, &model) != SEPLLM_OK) {
    fail("loading the model");
  } else if (sepllm_model_tokenizer(model, &tokenizer) != SEPLLM_OK ||
             sepllm_tokenizer_encode(tokenizer, argv[2], strlen(argv[2]), SEPLLM_ADD_SPECIAL, &ids, &n_ids) !=
                 SEPLLM_OK) {
    fail("encoding the text");
  } else if (sepllm_session_new(model, argc > 3 ? argv[3] : NULL, NULL, &session) != SEPLLM_OK) {
    fail("making the session");
  } else if (sepllm_session_feed(session, ids, n_ids) != SEPLLM_OK ||
             sepllm_session_fork(session, NULL, &other) != SEPLLM_OK) {
    fail("feeding the text");
  } else if (sepllm_session_generate(session, NULL, 0, "{\"n\": 24}", show, stdout, NULL) != SEPLLM_OK ||
             puts("") == EOF || /* and the same beginning again, with another end */
             sepllm_session_generate(other, NULL, 0, "{\"n\": 24, \"temp\": 0.8, \"seed\": 7}", show, stdout,
                                     NULL) != SEPLLM_OK) {
    fail("generating");
  } else {
    sepllm_kv_stats kv;
    sepllm_session_kv_stats(session, &kv);
    printf("\nkeys: mean %.1f, which is %.1f %% of full attention's\n", kv.mean_keys, 100 * kv.mean_share);
    code = 0;
  }
  sepllm_free(ids);
  sepllm_session_free(other);
  sepllm_session_free(session);
  sepllm_tokenizer_free(tokenizer);
  sepllm_model_free(model);
  return code;
}

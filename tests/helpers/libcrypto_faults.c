/* Stands before libcrypto: a call fails while the variable of its name is set, and contexts are counted. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fail_new, fail_copy, fail_init, fail_update, fail_fetch;
/* Contexts that were made and not freed. */
int contexts;

void *EVP_CIPHER_CTX_new(void)
{
    void *context = fail_new ? NULL : REAL(EVP_CIPHER_CTX_new)();
    if (context)
        __atomic_add_fetch(&contexts, 1, __ATOMIC_SEQ_CST);
    return context;
}

void EVP_CIPHER_CTX_free(void *context)
{
    if (context)
        __atomic_sub_fetch(&contexts, 1, __ATOMIC_SEQ_CST);
    REAL(EVP_CIPHER_CTX_free)(context);
}

int EVP_CIPHER_CTX_copy(void *context, const void *other)
{
    return fail_copy ? 0 : REAL(EVP_CIPHER_CTX_copy)(context, other);
}

int EVP_CipherInit_ex(
    void *context, const void *cipher, void *engine, const unsigned char *key,
    const unsigned char *iv, int encrypts)
{
    return fail_init ? 0 : REAL(EVP_CipherInit_ex)(context, cipher, engine, key, iv, encrypts);
}

int EVP_CipherUpdate(
    void *context, unsigned char *target, int *count, const unsigned char *source, int length)
{
    return fail_update ? 0 : REAL(EVP_CipherUpdate)(context, target, count, source, length);
}

void *EVP_CIPHER_fetch(void *library, const char *name, const char *properties)
{
    return fail_fetch ? NULL : REAL(EVP_CIPHER_fetch)(library, name, properties);
}
